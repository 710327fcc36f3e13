# Dense, from DeiT-B, with its normalisation. Total batch 8.
_base_ = "./vit-l_linear_ade20k-512_64e.py"

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint="pretrained/deit_base_patch16_224-b5f2ef4d.pth"),
    ),
    decode_head=dict(in_channels=768),
)
