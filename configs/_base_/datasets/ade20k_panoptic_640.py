# ADE20K panoptic, 100 classes of objects and 50 of stuff, in COCO's panoptic format.
_base_ = "./coco_panoptic_640.py"

data_root = "data/ade/ADEChallengeData2016/"
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-2, dict(type="PhotoMetricDistortion"))
train_dataloader = dict(
    dataset=dict(
        type="ADE20KPanopticDataset",
        data_root=data_root,
        ann_file="ade20k_panoptic_train.json",
        data_prefix=dict(img="images/training/", seg="ade20k_panoptic_train/"),
        pipeline=train_pipeline,
    )
)
_val = dict(
    type="ADE20KPanopticDataset",
    data_root=data_root,
    ann_file="ade20k_panoptic_val.json",
    data_prefix=dict(img="images/validation/", seg="ade20k_panoptic_val/"),
)
val_dataloader = dict(dataset=_val)
test_dataloader = dict(dataset=_val)
val_evaluator = dict(ann_file=data_root + "ade20k_panoptic_val.json", seg_prefix=data_root + "ade20k_panoptic_val/")
test_evaluator = val_evaluator
