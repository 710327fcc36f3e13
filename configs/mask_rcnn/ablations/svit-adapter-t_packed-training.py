# Training computes only the kept tokens, so that a training step also gets cheaper (docs/execution.md).
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(training="packed")))
