_base_ = "../digits_cropr-pyramid-nano.py"

model = dict(backbone=dict(reducer=dict(keep_ratio=[0.7, 0.55, 0.45, 0.33, 0.22], fusion=False)))
