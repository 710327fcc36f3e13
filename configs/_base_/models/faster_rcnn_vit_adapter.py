# Faster R-CNN on a dense ViT-Adapter of size T: boxes without masks.
_base_ = ["mmdet::_base_/models/faster-rcnn_r50_fpn.py", "./vit_adapter_t.py"]

model = dict(
    type="PrunedFasterRCNN",
    backbone=_base_._vit_adapter_t,
    neck=dict(in_channels=[192, 192, 192, 192]),
)
