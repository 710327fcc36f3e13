# Fine-tunes from the dense one; confident tokens exit after blocks 2 and 3.
_base_ = "./vit-nano_setr_camvid-352_ftune.py"

model = dict(backbone=dict(reducer=dict(type="DToP", stages=[2, 3], threshold=0.80)))
