# Tokens are merged in the nine blocks before the queries, 808 of 1600 remain; also for weights of the dense model.
_base_ = "./vit-s_eomt_coco-panoptic-640.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=88, blocks=list(range(9)))))
