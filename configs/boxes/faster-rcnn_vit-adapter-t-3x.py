# Faster R-CNN with the recipe of the published Mask R-CNN: 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/faster_rcnn_vit_adapter.py",
    "../_base_/datasets/coco_boxes.py",
    "../_base_/schedules/recipe_adapter.py",
    "../_base_/runtimes/runtime.py",
]

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="pretrained/deit_tiny_patch16_224-a1311bcf.pth"))
)
train_dataloader = dict(batch_size=4)
