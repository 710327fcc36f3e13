# The same segmentor trained on merged tokens.
_base_ = "./vit-adapter-s_dinov3_upernet_ade20k-512.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=48)))
