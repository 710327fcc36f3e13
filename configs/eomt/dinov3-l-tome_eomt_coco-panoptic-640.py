# Tokens are merged in the 20 blocks before the queries, 800 of 1600 remain; also for weights of the dense model.
_base_ = "./dinov3-l_eomt_coco-panoptic-640.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=40, blocks=list(range(20)))))
