# Mask2Former on the extractors of a ViT-Adapter over a frozen DINOv3: no injectors, so that the ViT runs undisturbed,
# with its class token and registers. DINOv3 published this form at size 7b only, so the learning rate is Mask2Former's
# own. 8 GPUs x 2 images.
_base_ = "./dinov2-adapter-s_mask2former_ade20k-640.py"

model = dict(
    backbone=dict(
        model_name="vit_small_patch16_dinov3",
        class_token=True,
        drop_path_rate=0.3,
        deform_ratio=0.5,
        init_values=None,
        frozen=True,
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
