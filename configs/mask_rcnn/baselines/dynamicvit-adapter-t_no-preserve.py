# DynamicViT as published: tokens that are dropped leave zeros on the map.
_base_ = "./dynamicvit-adapter-t.py"

model = dict(backbone=dict(reducer=dict(preserve=False)))
