# Evo-ViT: each block runs on the half with the highest class attention; the rest skips it.
_base_ = "../svit-adapter-s-0.33x-ftune.py"

model = dict(
    backbone=dict(
        class_token=True,
        norm_eps=1e-6,
        reducer=dict(_delete_=True, type="EvoViT", blocks=[4, 5, 6, 7, 8, 9, 10, 11], keep_ratio=0.5),
    )
)
