# 4 GPUs x 4 images.
_base_ = "./vit-b_linear_ade20k-512.py"

model = dict(
    backbone=dict(
        embed_dim=384, num_heads=6, init_cfg=dict(checkpoint="pretrained/deit_small_patch16_224-cd65a155.pth")
    ),
    decode_head=dict(in_channels=384, channels=384),
)
