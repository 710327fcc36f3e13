# ToMe without sizes of merged tokens in attention, which can then run as flash attention on a GPU.
_base_ = "./vit-s-tome_linear.py"

model = dict(backbone=dict(reducer=dict(prop_attn=False)))
