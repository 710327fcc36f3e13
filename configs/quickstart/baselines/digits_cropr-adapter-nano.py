_base_ = "../digits_svit-adapter-nano.py"

model = dict(
    backbone=dict(
        norm_eps=1e-6, reducer=dict(_delete_=True, type="Cropr", keep_ratio=[0.8, 0.6, 0.45, 0.35], num_classes=10)
    )
)
