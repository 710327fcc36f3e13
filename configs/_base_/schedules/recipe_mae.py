# Cropr's recipe for masked autoencoders on ImageNet: 50 epochs, total batch 1024, layer decay 0.75, warm-up of 5
# epochs, cosine to 1e-6; the rates of all layers fall by the same factor.
_base_ = ["../datasets/imagenet.py", "../runtimes/runtime_classification.py"]

optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    optimizer=dict(type="AdamW", lr=4e-3, weight_decay=0.05),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min_ratio=2.5e-4, by_epoch=True, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=1024)
# DeiT samples each image three times (repeated augmentation), this recipe once.
train_dataloader = dict(sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True))
