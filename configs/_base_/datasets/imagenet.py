# ImageNet-1k in class folders at data/imagenet/{train,val}, with DeiT's augmentation: RandAugment m9-mstd0.5-inc1,
# random erasing, each image three times per batch. (Its colour jitter has no effect with RandAugment and is left
# out.)
_mean, _std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]  # BGR, the order in which images are read
_bicubic = dict(backend="pillow", interpolation="bicubic")
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, **_bicubic),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(
        type="RandAugment",
        policies="timm_increasing",
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation="bicubic"),
    ),
    dict(
        type="RandomErasing",
        erase_prob=0.25,
        mode="rand",
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=_mean,
        fill_std=_std,
    ),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=256, edge="short", **_bicubic),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]
_data = dict(type="CustomDataset", data_root="data/imagenet/")
_loader = dict(batch_size=256, num_workers=8, persistent_workers=False, collate_fn=dict(type="default_collate"))
train_dataloader = dict(
    sampler=dict(type="RepeatAugSampler", shuffle=True),
    dataset=dict(**_data, data_prefix="train/", pipeline=train_pipeline),
    **_loader,
)
val_dataloader = dict(
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**_data, data_prefix="val/", pipeline=test_pipeline, test_mode=True),
    **_loader,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
