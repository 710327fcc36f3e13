# Dense; evaluates the published DeiT-S, and trains it from scratch on 4 GPUs x 256 images.
_base_ = ["../_base_/models/deit.py", "../_base_/datasets/imagenet.py", "../_base_/schedules/recipe_deit.py"]

model = dict(
    backbone=dict(drop_path_rate=0.1, num_classes=1000),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)
