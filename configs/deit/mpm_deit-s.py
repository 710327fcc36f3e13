# MPM off the shelf: published weights, no training; published blocks.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="MPM", blocks=[2, 5])))
