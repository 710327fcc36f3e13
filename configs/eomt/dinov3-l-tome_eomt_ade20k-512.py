# Tokens are merged in the 20 blocks before the queries, 524 of 1024 remain; also for weights of the dense model.
_base_ = "./dinov3-l_eomt_ade20k-512.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=25, blocks=list(range(20)))))
