_base_ = "../digits_svit-adapter-nano.py"

model = dict(
    backbone=dict(
        class_token=True, norm_eps=1e-6, reducer=dict(_delete_=True, type="ATS", blocks=[2, 3, 4], keep_ratio=0.7)
    )
)
