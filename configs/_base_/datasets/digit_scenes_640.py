# Digit scenes of 640 px with digits as large, in pixels, as in those of 256 px:
# tools/dataset_converters/digit_scenes.py data/digit_scenes_640 --size 640 --digit-scale 0.4
_base_ = "./digit_scenes.py"

data_root = "data/digit_scenes_640/"
_resize = dict(type="Resize", scale=(640, 640), keep_ratio=True)
_load_labels = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
train_pipeline = [dict(type="LoadImageFromFile"), _load_labels, _resize, dict(type="PackDetInputs")]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    _resize,
    _load_labels,
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
test_evaluator = val_evaluator
