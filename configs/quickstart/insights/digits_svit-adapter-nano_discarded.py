# Ablation of insight 1, preserve: a dropped token is discarded; it is never computed again, and the map has zeros
# there.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(inherit=True, preserve=False)))
