# CamVid enlarged to the 960 x 720 pixels that its cameras took; crops of 704.
_base_ = "./camvid.py"

_twice = dict(type="Resize", scale=(960, 720), keep_ratio=True)
train_dataloader = dict(
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadSegAnnotations", num_classes=11),
            dict(type="RandomResize", scale=(960, 720), ratio_range=(0.75, 1.5), keep_ratio=True),
            dict(type="RandomCrop", crop_size=(704, 704), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
        ]
    ),
)
# Labels keep their own size: scores are of the original images.
test_pipeline = [
    dict(type="LoadImage"),
    _twice,
    dict(type="LoadSegAnnotations", num_classes=11),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
