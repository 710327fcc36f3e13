_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(backbone=dict(reducer=dict(type="EViT", blocks=[3, 6, 9], keep_ratio=0.62, fuse=True)))
