# Random selection on the fine-tuned dense ViTDet, without training, at the cost of ToMe.
_base_ = "./pennfudan_vit-pyramid-t_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Random", keep_ratio=0.6, blocks=list(range(2, 12)))))
