# 8 GPUs x 2 images.
_base_ = "./vit-adapter-t_upernet_ade20k-512.py"

model = dict(
    backbone=dict(
        embed_dim=384,
        num_heads=6,
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint="pretrained/deit_small_patch16_224-cd65a155.pth"),
    ),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=2)
