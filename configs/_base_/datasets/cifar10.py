# CIFAR-10 in class folders (tools/dataset_converters/cifar10.py), with DeiT's augmentation for images of 32 pixels.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
_data = dict(type="CustomDataset", data_root="data/cifar10/")
_loader = dict(num_workers=1, persistent_workers=False, collate_fn=dict(type="default_collate"))
train_dataloader = dict(
    batch_size=128,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**_data, data_prefix="train/", pipeline=train_pipeline),
    **_loader,
)
val_dataloader = dict(
    batch_size=250,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**_data, data_prefix="val/", pipeline=test_pipeline, test_mode=True),
    **_loader,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
