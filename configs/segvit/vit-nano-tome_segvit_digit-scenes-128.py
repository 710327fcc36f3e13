# Fine-tunes from the dense one; tokens are merged in every block.
_base_ = "./vit-nano_segvit_digit-scenes-128_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=22)))
