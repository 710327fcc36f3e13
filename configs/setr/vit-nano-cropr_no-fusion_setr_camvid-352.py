# Without fusion: removed tokens do not return, and later heads get their last value.
_base_ = "./vit-nano-cropr_setr_camvid-352.py"

model = dict(backbone=dict(reducer=dict(keep_ratio=[0.9, 0.82, 0.75, 0.7, 0.68], fusion=False)))
