# MPM: fine-tunes from the dense one.
_base_ = "./vit-nano_setr_camvid-352_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=2)))
