# APT: patches of 32 pixels where the image is flat, at the paper's threshold for segmentation.
_base_ = "./vit-s_linear_ftune.py"

model = dict(backbone=dict(reducer=dict(type="APT", thresholds=(5.75,))))
