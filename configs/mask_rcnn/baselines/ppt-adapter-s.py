# PPT: prunes or pools, by image and block; not in the SViT paper. The threshold equals the published one at the
# second of its three blocks, in units that do not depend on the number of tokens.
_base_ = "../svit-adapter-s-0.33x-ftune.py"

model = dict(
    backbone=dict(
        class_token=True,
        norm_eps=1e-6,
        reducer=dict(_delete_=True, type="PPT", r=0.255, blocks=[3, 6, 9], threshold=1.5, relative=True),
    )
)
