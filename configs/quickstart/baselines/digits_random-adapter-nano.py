_base_ = "../digits_svit-adapter-nano.py"

model = dict(
    backbone=dict(
        norm_eps=1e-6, reducer=dict(_delete_=True, type="Random", blocks=[2, 3, 4, 5], keep_ratio=[0.7, 0.6, 0.5, 0.4])
    )
)
