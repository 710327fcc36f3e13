# Tokens are merged in the 20 blocks before the queries, 1696 of 4096 remain; also for weights of the dense model.
_base_ = "./vit-l_eomt_cityscapes-1024.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=120, blocks=list(range(20)))))
