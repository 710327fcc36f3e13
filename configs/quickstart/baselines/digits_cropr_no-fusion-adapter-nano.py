_base_ = './digits_cropr-adapter-nano.py'

model = dict(backbone=dict(reducer=dict(keep_ratio=[0.85, 0.75, 0.65, 0.55, 0.4], fusion=False)))
