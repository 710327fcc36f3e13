# APT off the shelf: patches of 32 and 64 pixels where the image is flat, published weights, no training.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="APT", thresholds=(5.75, 4.0))))
