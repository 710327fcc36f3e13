# APT, fine-tuned from the dense model: patches of 32 pixels where the image is flat, at the paper's threshold.
_base_ = "./vit-s_linear_ade20k-512_ftune.py"

model = dict(backbone=dict(reducer=dict(type="APT", thresholds=(5.75,))))
