# Fine-tunes the pruned detector from the dense one, with the published ratios.
_base_ = "./vit-adapter-s_pennfudan-800_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="SViT",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3,
            ratio_loss_weight=4.0,
        )
    )
)
