# Tokens are merged in the four blocks before the queries, 116 of 256 remain.
_base_ = "./vit-nano_eomt_digit-scenes-panoptic-256.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=35, blocks=[0, 1, 2, 3])))
