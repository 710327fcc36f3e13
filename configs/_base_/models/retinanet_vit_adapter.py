# RetinaNet on a dense ViT-Adapter of size T: boxes without masks, in one stage.
_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py", "./vit_adapter_t.py"]

model = dict(
    type="PrunedRetinaNet",
    backbone=_base_._vit_adapter_t,
    neck=dict(in_channels=[192, 192, 192, 192]),
)
