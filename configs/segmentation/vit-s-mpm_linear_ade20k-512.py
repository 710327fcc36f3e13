# MPM, fine-tuned from the dense model; published blocks.
_base_ = "./vit-s_linear_ade20k-512_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", blocks=[2, 5])))
