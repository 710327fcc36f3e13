# UPerNet on the extractors of a ViT-Adapter over a frozen DINOv3. 8 GPUs x 2 images.
_base_ = "./vit-adapter-s_upernet_ade20k-512.py"

model = dict(
    backbone=dict(
        model_name="vit_small_patch16_dinov3",
        drop_path_rate=0.0,
        init_values=None,
        frozen=True,
        init_cfg=dict(checkpoint="timm"),
    )
)
