# MPM: fine-tunes from the dense one.
_base_ = "./vit-nano_segvit_digit-scenes-128_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=2)))
