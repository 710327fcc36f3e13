# 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/segvit_l.py",
    "../_base_/datasets/pascal_context59.py",
    "../_base_/schedules/recipe_segvit.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

_head = dict(type="SegViTHead", in_channels=1024, channels=512, num_classes=59, layers_per_decoder=3, num_heads=16)
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    backbone=dict(img_size=480),
    auxiliary_head=[dict(in_index=0, **_head), dict(in_index=1, **_head)],
    decode_head=_head,
    test_cfg=dict(crop_size=(480, 480), stride=(320, 320)),
)
