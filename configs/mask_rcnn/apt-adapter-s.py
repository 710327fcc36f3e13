# APT: patches of 32, 64 and 128 pixels where the image is flat, at the paper's thresholds for detection; SViT's recipe.
_base_ = "./svit-adapter-s-0.33x-ftune.py"

model = dict(backbone=dict(norm_eps=1e-6, reducer=dict(_delete_=True, type="APT", thresholds=(2.0, 2.0, 0.3))))
