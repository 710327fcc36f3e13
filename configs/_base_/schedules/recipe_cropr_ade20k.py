# Cropr's recipe on ADE20K: 64 epochs of batch 8, AdamW, polynomial decay to zero, fp16. Layer decay was configured
# there but had no effect: a rate of 1.0 is what was trained, 0.9 what was intended.
_base_ = ["../datasets/ade20k.py", "../runtimes/runtime_segmentation.py"]

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = (512, 512)
train_dataloader = dict(
    batch_size=8,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    optimizer=dict(type="AdamW", lr=2e-5, weight_decay=0.05),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
# The rate would reach zero after the last of 64 x 2527 iterations.
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=161729)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=64, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=8)
