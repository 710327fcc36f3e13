# PPT's published fine-tuning.
_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PPT", r=50, blocks=[3, 6, 9], threshold=6e-5)))
