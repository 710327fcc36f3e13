# CamVid enlarged to 960 x 720, the resolution of its cameras; crops of 704.
_base_ = "./camvid.py"

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale, train_pipeline[3].crop_size = (960, 720), (704, 704)
train_dataloader = dict(num_workers=4, dataset=dict(pipeline=train_pipeline))
# Labels keep their original size, so scores are computed on the original images.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(960, 720), keep_ratio=True),
    dict(type="LoadAnnotations", num_classes=11),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
