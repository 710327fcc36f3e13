# Insight 1, preserve: here a dropped token is lost: it never runs again and leaves zero in the map.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(inherit=True, preserve=False)))
