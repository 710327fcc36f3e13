# SViT's published fine-tuning: no stochastic depth, no warm-up, 4 GPUs x 256 images. Its blocks have a LayerNorm eps
# of 1e-5, and the last selector may also drop the class token.
_base_ = "./deit-s_ftune.py"

model = dict(
    backbone=dict(
        drop_path_rate=0.0,
        norm_eps=1e-5,
        reducer=dict(
            type="SViT",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3,
            class_tokens="keep",
            last_class_tokens="score",
            ratio_loss_weight=4.0,
        ),
    )
)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-6))
param_scheduler = [dict(type="CosineAnnealingLR", eta_min_ratio=0.05, by_epoch=True, convert_to_iter_based=True)]
# No moving average: a fifth of it would still be the selectors' random initialisation.
custom_hooks = [hook for hook in _base_.custom_hooks if hook["type"] != "EMAFromWeightsHook"]
