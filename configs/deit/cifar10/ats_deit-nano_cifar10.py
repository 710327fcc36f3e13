_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ATS", blocks=[4, 7, 10], keep_ratio=0.9)))
