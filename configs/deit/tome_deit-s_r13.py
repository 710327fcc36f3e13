# ToMe off the shelf: published weights, no training.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=13)))
