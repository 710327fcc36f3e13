# Insight 4, the two-layer MLP: here DynamicViT's predictor selects, which also sees a mean of the image.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(gate="dynamicvit")))
