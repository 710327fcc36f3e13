# CubistMerge, fine-tuned from the dense model; the 32 x 32 tokens of a crop become 26 x 26 before block 1.
_base_ = "./vit-s_linear_ade20k-512_ftune.py"

model = dict(backbone=dict(reducer=dict(type="CubistMerge", r=6)))
