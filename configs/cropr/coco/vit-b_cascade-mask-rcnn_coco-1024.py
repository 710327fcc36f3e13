# Dense, global attention in all blocks, from MAE's weights. 16 GPUs x 4 images.
_base_ = [
    "../../_base_/models/cascade_mask_rcnn_vit_pyramid.py",
    "../../_base_/datasets/coco_lsj.py",
    "../../_base_/schedules/recipe_vitdet.py",
    "../../_base_/runtimes/runtime.py",
]

model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="pretrained/mae_pretrain_vit_base.pth")))
train_dataloader = dict(batch_size=4)
