# Ablation of insight 4, the MLP selector: three blocks share one selector's weights, but each block decides anew.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(
    backbone=dict(reducer=dict(selectors=[0, 0, 0, 1, 1, 1, 2, 2, 2], reuse=False, keep_ratio=[0.7, 0.49, 0.343]))
)
