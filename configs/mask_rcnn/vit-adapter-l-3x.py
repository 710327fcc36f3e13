# 16 GPUs x 1 image; starts from AugReg's ViT-L/16 (timm's vit_large_patch16_224.augreg_in21k, saved as a state dict).
_base_ = "./vit-adapter-t-3x.py"

model = dict(
    backbone=dict(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.4,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
        deform_num_heads=16,
        deform_ratio=0.5,
        with_cp=True,
        init_cfg=dict(checkpoint="pretrained/vit_large_patch16_224.augreg_in21k.pth"),
    ),
    neck=dict(in_channels=[1024, 1024, 1024, 1024]),
)
train_dataloader = dict(batch_size=1)
