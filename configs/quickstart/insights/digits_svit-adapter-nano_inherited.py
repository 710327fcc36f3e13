# Ablation of insight 2, reactivate: a dropped token stays dropped; its value stays in the map.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(inherit=True)))
