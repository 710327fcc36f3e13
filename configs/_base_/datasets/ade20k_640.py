# ADE20K in crops of 640.
_base_ = "./ade20k.py"

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale, train_pipeline[3].crop_size = (2560, 640), (640, 640)
test_pipeline[1].scale = (2560, 640)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
