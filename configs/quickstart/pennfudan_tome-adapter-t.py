# ToMe on the fine-tuned dense size T, without training; about 3,400 tokens.
_base_ = "./pennfudan_vit-adapter-t_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=160)))
