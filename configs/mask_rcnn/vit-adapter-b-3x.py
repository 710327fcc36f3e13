# 8 GPUs x 2 images.
_base_ = "./vit-adapter-t-3x.py"

model = dict(
    backbone=dict(
        embed_dim=768,
        num_heads=12,
        drop_path_rate=0.2,
        deform_num_heads=12,
        deform_ratio=0.5,
        init_cfg=dict(checkpoint="pretrained/deit_base_patch16_224-b5f2ef4d.pth"),
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
)
train_dataloader = dict(batch_size=2)
