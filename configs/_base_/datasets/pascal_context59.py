# Pascal-Context (tools/dataset_converters/pascal_context.py), its 59 classes without the background, crops of 480
# from images whose short side is 520. Label maps count from 1; 0 is ignored.
_base_ = "./segmentation.py"

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].num_classes = test_pipeline[2].num_classes = 59
train_pipeline[2].scale = test_pipeline[1].scale = (2048, 520)
train_pipeline[3].crop_size = (480, 480)
_data = dict(
    type="PascalContextDataset59",
    data_root="data/VOCdevkit/VOC2010",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext"),
)
train_dataloader = dict(
    dataset=dict(ann_file="ImageSets/SegmentationContext/train.txt", pipeline=train_pipeline, **_data)
)
val_dataloader = dict(dataset=dict(ann_file="ImageSets/SegmentationContext/val.txt", pipeline=test_pipeline, **_data))
test_dataloader = val_dataloader
