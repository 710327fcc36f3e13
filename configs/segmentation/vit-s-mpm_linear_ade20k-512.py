# MPM, fine-tuned from the dense model; before blocks 2 and 5, as published.
_base_ = "./vit-s_linear_ade20k-512_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=2)))
