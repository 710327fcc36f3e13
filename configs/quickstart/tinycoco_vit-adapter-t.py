# The published vit-adapter-t recipe on any small COCO-style folder at data/tinycoco, with images in images/.
_base_ = "../mask_rcnn/vit-adapter-t-3x.py"

_root = "data/tinycoco/"
train_dataloader = dict(dataset=dict(data_root=_root, data_prefix=dict(img="images/train2017/")))
val_dataloader = dict(dataset=dict(data_root=_root, data_prefix=dict(img="images/val2017/")))
test_dataloader = dict(dataset=dict(data_root=_root, data_prefix=dict(img="images/val2017/")))
val_evaluator = dict(ann_file=_root + "annotations/instances_val2017.json")
test_evaluator = dict(ann_file=_root + "annotations/instances_val2017.json")
