# Representation shift off the shelf: published weights, no training; published blocks and share.
_base_ = "./deit-s.py"

model = dict(
    backbone=dict(reducer=dict(type="EViT", blocks=[0, 3, 6], keep_ratio=0.8, fuse=False, score="representation_shift"))
)
