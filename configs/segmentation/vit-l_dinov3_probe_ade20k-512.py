# Size L (published: 54.9 mIoU).
_base_ = "./vit-s_dinov3_probe_ade20k-512.py"

model = dict(
    backbone=dict(model_name="vit_large_patch16_dinov3", embed_dim=1024, depth=24, num_heads=16),
    decode_head=dict(in_channels=1024),
)
