# Evo-ViT, fine-tuned like PPT. (Its paper trains 300 epochs from scratch.)
_base_ = "./deit-s_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="EvoViT",
            blocks=[4, 5, 6, 7, 8, 9, 10, 11],
            decide=[4, 8],
            keep_ratio=0.5,
            tradeoff=[1.0] * 4 + [0.5] * 8,
        )
    )
)
