# Cityscapes, 19 classes, crops of 1024 padded with black pixels; images of 2048 x 1024 are tested whole.
_base_ = "./segmentation.py"

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].num_classes = test_pipeline[2].num_classes = 19
train_pipeline[2].scale, test_pipeline[1].scale = (2048, 1024), (2048, 1024)
train_pipeline[3].crop_size = (1024, 1024)
train_pipeline.insert(-1, dict(type="Pad", size=(1024, 1024), pad_val=dict(img=(0, 0, 0), seg=255)))
_data = dict(type="CityscapesDataset", data_root="data/cityscapes")
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"), pipeline=train_pipeline, **_data
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"), pipeline=test_pipeline, **_data
    )
)
test_dataloader = val_dataloader
