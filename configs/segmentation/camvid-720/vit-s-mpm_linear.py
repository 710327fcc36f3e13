# MPM: mutual nearest neighbours are merged before three blocks; attention is not weighted by sizes.
_base_ = "./vit-s_linear_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=3)))
