# Ablation of insight 4, the two-layer MLP: DynamicViT's predictor selects, which also uses the mean over the image.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(gate="dynamicvit")))
