_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=3)))
