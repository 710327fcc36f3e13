_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PPT", r=19, blocks=[3, 6, 9], threshold=1e-3)))
