# Training computes only the kept tokens, so that a training step also gets cheaper.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(training="packed")))
