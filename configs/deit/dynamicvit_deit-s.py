# DynamicViT: the predictors have a hundred times the network's learning rate; both are distilled from the dense
# model.
_base_ = "./deit-s_ftune.py"

model = dict(
    backbone=dict(reducer=dict(type="DynamicViT", blocks=[3, 6, 9], keep_ratio=0.7)),
    distillation=dict(
        type="DynamicViTDistillation",
        teacher=dict(
            type="TimmViT",
            model_name="deit_small_patch16_224",
            checkpoint="pretrained/deit_small_patch16_224-cd65a155.pth",
        ),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-5), paramwise_cfg=dict(custom_keys={"backbone.reducer": dict(lr_mult=100.0)}))
param_scheduler = [dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True)]
# No moving average: a fifth of it would still be the predictors' random initialisation.
custom_hooks = [hook for hook in _base_.custom_hooks if hook["type"] != "EMAFromWeightsHook"]
