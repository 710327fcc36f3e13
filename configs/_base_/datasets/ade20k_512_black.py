# ADE20K in crops of 512 that are padded with black pixels, not with the mean colour.
_base_ = "./ade20k.py"

train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type="Pad", size=(512, 512), pad_val=dict(img=(0, 0, 0), seg=255)))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
