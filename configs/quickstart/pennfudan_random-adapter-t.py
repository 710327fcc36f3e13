# Random selection on the fine-tuned dense size T, without training, at the cost of ToMe.
_base_ = "./pennfudan_vit-adapter-t_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Random", keep_ratio=0.5, blocks=list(range(2, 12)))))
