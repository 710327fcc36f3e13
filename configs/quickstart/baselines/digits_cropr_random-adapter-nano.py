_base_ = './digits_cropr-adapter-nano.py'

model = dict(backbone=dict(reducer=dict(ranking='random')))
