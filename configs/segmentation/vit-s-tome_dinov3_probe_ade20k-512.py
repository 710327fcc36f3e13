# ToMe in front of the trained probe, without training: evaluate with the dense checkpoint.
_base_ = "./vit-s_dinov3_probe_ade20k-512.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.04)))
