_base_ = "../digits_vit-pyramid-nano_ftune.py"

model = dict(
    backbone=dict(class_token=True, reducer=dict(type="PPT", r=0.25, blocks=[1, 2, 3], threshold=1.5, relative=True))
)
