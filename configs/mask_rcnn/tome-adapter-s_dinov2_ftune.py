# ToMe on the trained dense model, with the schedule of SViT; about 40 % of the tokens are left at 800 x 1344.
_base_ = "./svit-adapter-s_dinov2_ftune.py"

model = dict(backbone=dict(reducer=dict(_delete_=True, type="ToMe", r=0.05)))
