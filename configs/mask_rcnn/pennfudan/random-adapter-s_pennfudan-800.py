# Random selection at SViT's ratios.
_base_ = "./vit-adapter-s_pennfudan-800_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="Random", blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11], keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3
        )
    )
)
