# Ablation of insight 4, the MLP selector: random selection at the same ratios.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            _delete_=True,
            type="Random",
            blocks=[3, 4, 5, 6, 7, 8, 9, 10, 11],
            keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3,
        )
    )
)
