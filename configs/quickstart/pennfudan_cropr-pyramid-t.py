# Fine-tunes the ViTDet with Cropr: 30 % of the grid remain before the last block, where all tokens return.
_base_ = "./pennfudan_vit-pyramid-t_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", keep_ratio=0.3, num_classes=1)))
