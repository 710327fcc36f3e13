# Fine-tunes from the dense one at 0.6 of its multiply-adds, like the other methods on this data set.
_base_ = "../../deit/cifar10/deit-nano_cifar10_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", keep_ratio=0.15, num_classes=10)))
