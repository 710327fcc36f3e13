_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(
    backbone=dict(reducer=dict(type="EvoViT", blocks=[4, 5, 6, 7, 8, 9, 10, 11], decide=[4, 8], keep_ratio=0.43))
)
