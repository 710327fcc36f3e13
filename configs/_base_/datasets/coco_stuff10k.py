# COCO-Stuff-10k (tools/dataset_converters/coco_stuff10k.py), 171 classes, crops of 512. Label
# maps count from 1; 0 is ignored.
_base_ = "./ade20k.py"

data_root = "data/coco_stuff10k"
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadSegAnnotations", num_classes=171),
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    dict(type="LoadSegAnnotations", num_classes=171),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    dataset=dict(
        type="COCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/train2014", seg_map_path="annotations/train2014"),
        reduce_zero_label=True,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type="COCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/test2014", seg_map_path="annotations/test2014"),
        reduce_zero_label=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
