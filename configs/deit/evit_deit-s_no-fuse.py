# Dropped tokens leave no trace.
_base_ = "./evit_deit-s.py"

model = dict(backbone=dict(reducer=dict(fuse=False)))
