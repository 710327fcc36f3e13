# The ratio loss takes the batch of all GPUs as one, so that the split over GPUs does not matter.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(all_processes=True)))
