# A frozen DINOv3 of size S under ViT-Adapter's extractors: no injectors, so that the ViT runs undisturbed, with its
# class token and registers. 8 GPUs x 2 images.
_base_ = "./vit-adapter-s-3x.py"

model = dict(
    backbone=dict(
        model_name="vit_small_patch16_dinov3",
        drop_path_rate=0.0,
        init_values=None,
        frozen=True,
        init_cfg=dict(checkpoint="timm"),
    )
)
