# The ratio loss uses the batch of all GPUs together, so that the split over GPUs does not matter.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(reducer=dict(all_processes=True)))
