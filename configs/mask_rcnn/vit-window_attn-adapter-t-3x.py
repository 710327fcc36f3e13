# Two of every three blocks attend inside windows of 14 x 14 tokens.
_base_ = "./vit-adapter-t-3x.py"

model = dict(backbone=dict(window_attn=[True, True, False] * 4, window_size=14, layer_scale=True))
