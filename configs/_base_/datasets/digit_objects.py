# Digit scenes with all digits as one class (tools/dataset_converters/digit_segments.py): where they are is learned
# within minutes, which digit it is takes longer. Flips and scales vary.
_base_ = "./digit_scenes.py"

data_root = "data/digit_segments/"
metainfo = dict(classes=("digit",))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(256, 256), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(256, 256), allow_negative_crop=False),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file="annotations/objects_train.json", pipeline=train_pipeline
    )
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, ann_file="annotations/objects_val.json"))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/objects_val.json", metric="segm")
test_evaluator = val_evaluator
