# Fine-tunes from the dense one; the blocks after the first stage run on randomly chosen tokens.
_base_ = "./vit-nano_segvit_digit-scenes-128_ftune.py"

model = dict(backbone=dict(reducer=dict(type="Random", blocks=[3, 4, 5], keep_ratio=[0.5, 0.45, 0.45])))
