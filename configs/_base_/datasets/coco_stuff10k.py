# COCO-Stuff-10k (tools/dataset_converters/coco_stuff10k.py), 171 classes, crops of 512. Label maps count from 1; 0 is
# ignored.
_base_ = "./segmentation.py"

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].num_classes = test_pipeline[2].num_classes = 171
_data = dict(type="COCOStuffDataset", data_root="data/coco_stuff10k", reduce_zero_label=True)
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="images/train2014", seg_map_path="annotations/train2014"),
        pipeline=train_pipeline,
        **_data,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="images/test2014", seg_map_path="annotations/test2014"),
        pipeline=test_pipeline,
        **_data,
    )
)
test_dataloader = val_dataloader
