# Without fusion: removed tokens do not return; the same number of multiply-adds.
_base_ = "./deit-nano-cropr_cifar10.py"

model = dict(backbone=dict(reducer=dict(keep_ratio=0.22, fusion=False)))
