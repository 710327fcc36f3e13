# Mask R-CNN on a dense ViT-Adapter of size T.
_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "./vit_adapter_t.py"]

model = dict(
    type="PrunedMaskRCNN",
    backbone=_base_._vit_adapter_t,
    neck=dict(in_channels=[192, 192, 192, 192]),
)
