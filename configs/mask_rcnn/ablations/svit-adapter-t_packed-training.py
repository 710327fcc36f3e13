# Training computes the kept tokens only, so that its step gets cheaper, too: docs/execution.md.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(training="packed")))
