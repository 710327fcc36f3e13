# Size L, with the drop path published for BEiT-L. 16 GPUs x 1 image.
_base_ = "./dinov2-adapter-s_mask2former_ade20k-640.py"

model = dict(
    backbone=dict(
        model_name="vit_large_patch14_dinov2",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.3,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
        deform_num_heads=16,
        deform_ratio=0.5,
        with_cp=True,
    ),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024]),
)
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
