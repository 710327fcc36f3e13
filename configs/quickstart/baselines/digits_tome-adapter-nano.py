_base_ = "../digits_svit-adapter-nano.py"

model = dict(backbone=dict(norm_eps=1e-6, reducer=dict(_delete_=True, type="ToMe", r=0.11, blocks=[1, 2, 3, 4, 5])))
