# EViT: fine-tunes from the dense one, with a class token for its attention; the other tokens are fused into one.
_base_ = "./vit-nano_setr_camvid-352_ftune.py"

model = dict(backbone=dict(class_token=True, reducer=dict(type="EViT", blocks=[1, 3], keep_ratio=0.83)))
