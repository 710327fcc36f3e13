# Fine-tunes from the dense one; tokens are merged in every block.
_base_ = "./vit-nano_setr_camvid-352_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=48)))
