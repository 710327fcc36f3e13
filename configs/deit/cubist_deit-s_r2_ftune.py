# CubistMerge, fine-tuned for one epoch, as many as its paper trains DeiT-B for; learning rate and augmentation are
# PPT's.
_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="CubistMerge", r=2)))
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=1, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=1)
# No moving average: after one epoch it would still be the weights of the start.
custom_hooks = [hook for hook in _base_.custom_hooks if hook["type"] != "EMAFromWeightsHook"]
