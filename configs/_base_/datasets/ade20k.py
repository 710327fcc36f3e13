# ADE20K, 150 classes, crops of 512. Not inherited from mmseg: MMEngine does not find `mmseg::` configs in OneDL's
# package.
_base_ = "./segmentation.py"

_data = dict(type="ADE20KDataset", data_root="data/ade/ADEChallengeData2016")
train_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"), **_data)
)
val_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"), **_data)
)
test_dataloader = val_dataloader
