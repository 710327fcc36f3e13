# DynamicViT as published: the map has zeros at dropped tokens.
_base_ = "./dynamicvit-adapter-t.py"

model = dict(backbone=dict(reducer=dict(preserve=False)))
