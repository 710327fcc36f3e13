# SViT: a selector per block chooses its tokens.
_base_ = "./vit-s_linear_ftune.py"

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
