# EViT by representation shift: it needs no class token; not in the SViT paper.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(
    backbone=dict(
        norm_eps=1e-6,
        reducer=dict(_delete_=True, type="EViT", blocks=[3, 6, 9], keep_ratio=0.7, score="representation_shift"),
    )
)
