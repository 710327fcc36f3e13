# Mask2Former's published optimisation on COCO, 50 epochs at a total batch of 16, with the layer decay of DINOv2-S in
# place of its tenth of the learning rate for the backbone.
_base_ = "./recipe_adapter.py"

optim_wrapper = dict(
    loss_scale="dynamic",
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7),
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, begin=0, end=50, milestones=[44, 48], gamma=0.1)]
train_cfg = dict(max_epochs=50, val_interval=5)
