# CamVid's street scenes of 480 x 360 (tools/dataset_converters/camvid.py): 11 classes, 255 for unlabelled pixels.
_base_ = "./segmentation.py"

metainfo = dict(
    classes=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign/symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    palette=[
        [128, 128, 128],
        [128, 0, 0],
        [192, 192, 128],
        [128, 64, 128],
        [60, 40, 222],
        [128, 128, 0],
        [192, 128, 128],
        [64, 64, 128],
        [64, 0, 128],
        [64, 64, 0],
        [0, 128, 192],
    ],
)
train_pipeline = _base_.train_pipeline
train_pipeline[1].num_classes = 11
train_pipeline[2].update(scale=(480, 360), ratio_range=(0.75, 1.5))
train_pipeline[3].crop_size = (352, 352)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", num_classes=11),
    dict(type="PackSegInputs"),
]
_data = dict(data_root="data/camvid/", metainfo=metainfo, img_suffix=".png")
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"), pipeline=train_pipeline, **_data
    ),
)
val_dataloader = dict(
    num_workers=1,
    persistent_workers=False,
    dataset=dict(data_prefix=dict(img_path="images/val", seg_map_path="labels/val"), pipeline=test_pipeline, **_data),
)
test_dataloader = val_dataloader
