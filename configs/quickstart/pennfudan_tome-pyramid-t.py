# ToMe on the fine-tuned dense ViTDet, without training; about 3,400 tokens.
_base_ = "./pennfudan_vit-pyramid-t_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=160)))
