# COCO panoptic: scales of 0.1 to 2, crops of 640 with at least one segment, padded with black.
_base_ = "mmdet::_base_/datasets/coco_panoptic.py"

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadPanopticAnnotations", with_bbox=True, with_mask=True, with_seg=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(640, 640), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_type="absolute_range", crop_size=(640, 640), recompute_bbox=True),
    dict(type="Pad", size=(640, 640), pad_val=dict(img=(0, 0, 0), masks=0, seg=255)),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(640, 640), keep_ratio=True),
    dict(type="LoadPanopticAnnotations"),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=4, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
_prefix = "data/coco/annotations/panoptic_val2017"
val_evaluator = dict(_delete_=True, type="PanopticQuality", ann_file=_prefix + ".json", seg_prefix=_prefix + "/")
test_evaluator = val_evaluator
