# Without fusion: dropped tokens are not fused into one token.
_base_ = "./evit_deit-s.py"

model = dict(backbone=dict(reducer=dict(fuse=False)))
