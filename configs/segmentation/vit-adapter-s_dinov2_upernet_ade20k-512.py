# UPerNet on a ViT-Adapter from DINOv2, with the layer decay of its detectors. 8 GPUs x 2 images.
_base_ = "./vit-adapter-s_upernet_ade20k-512.py"

model = dict(
    backbone=dict(
        model_name="vit_small_patch14_dinov2",
        patch_size=16,
        img_size=592,
        class_token=False,
        init_cfg=dict(checkpoint="timm"),
    )
)
optim_wrapper = dict(
    constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7)
)
