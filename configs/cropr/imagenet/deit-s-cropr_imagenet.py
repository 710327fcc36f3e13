# Fine-tunes from DeiT-S like the methods of configs/deit; routers start from random weights, at 1e-3.
_base_ = "../../deit/deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", r=16, num_classes=1000)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"backbone.reducer": dict(lr_mult=50.0)}))
# No moving average: a fifth of it would still be the routers' random initialisation.
custom_hooks = [hook for hook in _base_.custom_hooks if hook["type"] != "EMAFromWeightsHook"]
