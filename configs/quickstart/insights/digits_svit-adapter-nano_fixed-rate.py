# Insight 3, dynamic rate: here every image is held to the ratio in training and gets exactly it in evaluation.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(ratio_loss="image", mode="ratio")))
