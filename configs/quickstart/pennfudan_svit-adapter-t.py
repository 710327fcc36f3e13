# Fine-tunes the pruned size T from the dense one; only kept tokens are computed in training, too.
_base_ = "./pennfudan_vit-adapter-t_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="SViT",
            blocks=[2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.5] * 4 + [0.3] * 3 + [0.2] * 3,
            ratio_loss_weight=4.0,
            training="packed",
        ),
    )
)
