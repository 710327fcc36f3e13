# Penn-Fudan at the usual size for detection: 800 pixels on the short side.
_base_ = "./pennfudan.py"

_sizes = [(1344, short) for short in range(640, 801, 32)]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="RandomChoiceResize", scales=_sizes, keep_ratio=True),
            dict(type="PackDetInputs"),
        ]
    ),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1344, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
