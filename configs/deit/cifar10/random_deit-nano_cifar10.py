_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="Random", blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11], keep_ratio=[0.67] * 3 + [0.45] * 3 + [0.3] * 3
        )
    )
)
