# Penn-Fudan pedestrians (tools/dataset_converters/pennfudan.py): 120 images to train on, 50 to validate.
_base_ = "./digit_scenes.py"

data_root = "data/pennfudan/"
metainfo = dict(classes=("person",))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomChoiceResize", scales=[(512, short) for short in range(256, 417, 32)], keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(512, 384), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
_data = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=4, dataset=dict(**_data, data_prefix=dict(img="images/train/"), pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=1, dataset=dict(**_data, data_prefix=dict(img="images/val/"), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
test_evaluator = val_evaluator
