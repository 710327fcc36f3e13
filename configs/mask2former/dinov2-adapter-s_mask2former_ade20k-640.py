# Mask2Former on a ViT-Adapter-S from DINOv2, by the recipe published for BEiT-L (58.3 mIoU, 59.0 at several scales;
# layer decay 0.90, drop path 0.3) with the layer decay of DINOv2's detectors. 8 GPUs x 2 images.
_base_ = [
    "../_base_/models/mask2former_vit_adapter_semantic.py",
    "../_base_/datasets/ade20k_640.py",
    "../_base_/schedules/recipe_mask2former_ade20k.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

train_dataloader = dict(batch_size=2)
