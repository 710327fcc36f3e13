# Insight 1, preserve: here a dropped token loses its value: its block leaves zero in the map.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(preserve=False, inherit=True)))
