# Ablation of insight 3, dynamic rate: the ratio loss holds every single image to the ratio, not the batch.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(ratio_loss="image")))
