# Ablation of insight 3, dynamic rate: training holds every image to the ratio, evaluation keeps exactly the ratio.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(ratio_loss="image", mode="ratio")))
