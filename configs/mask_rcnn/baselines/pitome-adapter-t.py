# PiToMe: tokens with many similar ones are merged in every block; not in the SViT paper.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(norm_eps=1e-6, reducer=dict(_delete_=True, type="PiToMe", keep_ratio=0.9)))
