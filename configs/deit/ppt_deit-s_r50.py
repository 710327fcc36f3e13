# PPT off the shelf: published weights, no training.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="PPT", r=50, blocks=[3, 6, 9], threshold=7e-5)))
