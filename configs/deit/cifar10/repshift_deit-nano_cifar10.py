_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(
    backbone=dict(reducer=dict(type="EViT", blocks=[0, 3, 6], keep_ratio=0.8, fuse=False, score="representation_shift"))
)
