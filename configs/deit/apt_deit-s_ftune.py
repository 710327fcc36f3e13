# APT's short fine-tuning: one epoch at a constant 1e-6 with layer decay 0.99, on images without augmentation.
_base_ = "./apt_deit-s.py"

load_from = "pretrained/deit_small_patch16_224-cd65a155.pth"
model = dict(backbone=dict(drop_path_rate=0.0), train_cfg=None)
train_dataloader = dict(
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True), dataset=dict(pipeline=_base_.test_pipeline)
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-6),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.99),
)
param_scheduler = []
train_cfg = dict(max_epochs=1)
# No moving average: after one epoch it would still be the weights of the start.
custom_hooks = [hook for hook in _base_.custom_hooks if hook["type"] != "EMAFromWeightsHook"]
