_base_ = "../digits_cropr-pyramid-nano.py"

model = dict(backbone=dict(reducer=dict(ranking="random")))
