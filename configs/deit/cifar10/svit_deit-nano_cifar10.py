_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="SViT",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.65] * 3 + [0.42] * 3 + [0.27] * 3,
            class_tokens="keep",
            last_class_tokens="score",
        )
    )
)
