# Ablation of insight 1, preserve: a dropped token loses its value; the map has zeros there.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(preserve=False, inherit=True)))
