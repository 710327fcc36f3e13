# Size B (published: 51.8 mIoU).
_base_ = "./vit-s_dinov3_probe_ade20k-512.py"

model = dict(
    backbone=dict(model_name="vit_base_patch16_dinov3", embed_dim=768, depth=12, num_heads=12),
    decode_head=dict(in_channels=768),
)
