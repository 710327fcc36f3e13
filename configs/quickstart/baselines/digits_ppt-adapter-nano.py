_base_ = "../digits_svit-adapter-nano.py"

model = dict(
    backbone=dict(
        class_token=True,
        norm_eps=1e-6,
        reducer=dict(_delete_=True, type="PPT", r=0.2, blocks=[2, 3, 4], threshold=1.5, relative=True),
    )
)
