# EViT: tokens with low class attention are fused into one; fixed rate.
_base_ = "../svit-adapter-s-0.33x-ftune.py"

model = dict(
    backbone=dict(
        class_token=True, norm_eps=1e-6, reducer=dict(_delete_=True, type="EViT", blocks=[3, 6, 9], keep_ratio=0.7)
    )
)
