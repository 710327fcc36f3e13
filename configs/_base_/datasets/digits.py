# Handwritten digits in class folders (tools/dataset_converters/digits.py). No flips: mirrored digits differ.
_base_ = "./cifar10.py"

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomCrop", crop_size=32, padding=3),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=64, dataset=dict(data_root="data/digits/", pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root="data/digits/"))
test_dataloader = dict(dataset=dict(data_root="data/digits/"))
