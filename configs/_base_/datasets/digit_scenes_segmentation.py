# Digit scenes with label maps (tools/dataset_converters/digit_scenes.py), images at half their size. All digits are
# one class: within minutes a plain ViT trained from scratch learns where they are, but not which digit.
data_root = "data/digit_scenes/"
metainfo = dict(classes=("background", "digit"), palette=[[0, 0, 0], [230, 25, 75]])
load_labels = dict(type="LoadAnnotations", num_classes=2, merge=[0] + 10 * [1])
train_pipeline = [
    dict(type="LoadImageFromFile"),
    load_labels,
    dict(type="RandomResize", scale=(128, 128), ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(128, 128)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    load_labels,
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path="train", seg_map_path="semantic/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path="val", seg_map_path="semantic/val"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
