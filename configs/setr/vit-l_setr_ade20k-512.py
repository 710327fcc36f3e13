# 4 GPUs x 4 images. No stochastic depth, as in SETR.
_base_ = [
    "../_base_/models/segvit_l.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/recipe_segvit.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

_head = dict(type="MLPHead", in_channels=1024, channels=256, num_classes=150, num_layers=2, mlp_ratio=1)
_loss = dict(type="CrossEntropyLoss", loss_weight=0.4)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(img_size=512, drop_path_rate=0.0),
    auxiliary_head=[dict(in_index=0, loss_decode=_loss, **_head), dict(in_index=1, loss_decode=_loss, **_head)],
    decode_head=dict(_delete_=True, in_index=2, **_head),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
