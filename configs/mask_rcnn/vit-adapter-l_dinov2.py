# Size L, one global block in six; 16 GPUs x 1 image.
_base_ = "./vit-adapter-s_dinov2.py"

model = dict(
    backbone=dict(
        model_name="vit_large_patch14_dinov2",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.4,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
        window_attn=([True] * 5 + [False]) * 4,
        deform_num_heads=16,
        deform_ratio=0.5,
        with_cp=True,
    ),
    neck=dict(in_channels=[1024, 1024, 1024, 1024]),
)
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
