# A random order decides which tokens are removed; all return before the last block.
_base_ = "./deit-nano-cropr_cifar10.py"

model = dict(backbone=dict(reducer=dict(ranking="random")))
