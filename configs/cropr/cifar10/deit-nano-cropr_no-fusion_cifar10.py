# Nobody comes back; as many multiply-adds.
_base_ = "./deit-nano-cropr_cifar10.py"

model = dict(backbone=dict(reducer=dict(keep_ratio=0.22, fusion=False)))
