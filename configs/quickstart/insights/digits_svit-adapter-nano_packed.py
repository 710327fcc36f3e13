# Training computes the kept tokens alone, so that its step gets cheaper, too.
_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(reducer=dict(training="packed")))
