# Size L; 16 GPUs x 1 image.
_base_ = "./vit-adapter-s_dinov3.py"

model = dict(
    backbone=dict(
        model_name="vit_large_patch16_dinov3",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
        deform_num_heads=16,
        deform_ratio=0.5,
    ),
    neck=dict(in_channels=[1024, 1024, 1024, 1024]),
)
train_dataloader = dict(batch_size=1)
