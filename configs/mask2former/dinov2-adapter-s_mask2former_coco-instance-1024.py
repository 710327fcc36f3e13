# Mask2Former on a ViT-Adapter-S from DINOv2, COCO instances with large-scale jitter. 8 GPUs x 2 images.
_base_ = [
    "../_base_/models/mask2former_vit_adapter.py",
    "../_base_/datasets/coco_lsj.py",
    "../_base_/schedules/recipe_mask2former_coco.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(type="BatchFixedSizePad", size=(1024, 1024), pad_mask=True, pad_seg=False)]
    )
)
