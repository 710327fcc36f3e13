# ALGM, fine-tuned from the dense model; published blocks and threshold for a ViT-S on ADE20K.
_base_ = "./vit-s_linear_ade20k-512_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ALGM", blocks=[0, 4], threshold=0.88)))
