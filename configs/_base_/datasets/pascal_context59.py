# Pascal-Context (tools/dataset_converters/pascal_context.py), its 59 classes without the background, crops of 480 from
# images whose short side is 520. Label maps count from 1; 0 is ignored.
_base_ = "./ade20k.py"

data_root = "data/VOCdevkit/VOC2010"
data_prefix = dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext")
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadSegAnnotations", num_classes=59),
    dict(type="RandomResize", scale=(2048, 520), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(480, 480), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(2048, 520), keep_ratio=True),
    dict(type="LoadSegAnnotations", num_classes=59),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    dataset=dict(
        type="PascalContextDataset59",
        data_root=data_root,
        data_prefix=data_prefix,
        ann_file="ImageSets/SegmentationContext/train.txt",
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type="PascalContextDataset59",
        data_root=data_root,
        data_prefix=data_prefix,
        ann_file="ImageSets/SegmentationContext/val.txt",
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
