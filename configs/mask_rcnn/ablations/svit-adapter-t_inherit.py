# Ablation of insight 2, reactivate: a dropped token stays dropped. Three decisions, each for three blocks, as
# published.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(
    backbone=dict(reducer=dict(inherit=True, selectors=[0, 0, 0, 1, 1, 1, 2, 2, 2], keep_ratio=[0.7, 0.49, 0.343]))
)
