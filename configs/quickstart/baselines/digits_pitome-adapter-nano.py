_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(norm_eps=1e-6, reducer=dict(_delete_=True, type="PiToMe", keep_ratio=0.85)))
