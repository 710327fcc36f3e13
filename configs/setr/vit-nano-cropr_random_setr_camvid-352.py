# A random order decides which tokens are removed; all return before the last block.
_base_ = "./vit-nano-cropr_setr_camvid-352.py"

model = dict(backbone=dict(reducer=dict(ranking="random")))
