# MPM off the shelf: published weights, no training; before blocks 2 and 5, as published.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=2)))
