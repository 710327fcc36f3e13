# SViT's published fine-tuning: without stochastic depth and warm-up, 4 GPUs x 256 images. Its blocks have a LayerNorm
# eps of 1e-5, and the last selector may drop the class token, too.
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
# No average: it would still hold a fifth of the fresh selectors.
custom_hooks = [hook for hook in _base_.custom_hooks if hook["type"] != "EMAFromWeightsHook"]
