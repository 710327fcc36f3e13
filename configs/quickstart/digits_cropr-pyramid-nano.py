# Fine-tunes the nano ViTDet with half of its blocks' multiply-adds; all tokens return before the last block.
_base_ = "./digits_vit-pyramid-nano_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", keep_ratio=[0.6, 0.35, 0.2, 0.1], num_classes=10)))
