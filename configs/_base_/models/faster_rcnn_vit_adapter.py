# Faster R-CNN on a dense ViT-Adapter of size T: boxes without masks.
_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"

model = dict(
    type="PrunedFasterRCNN",
    backbone=dict(
        _delete_=True,
        type="ViTAdapter",
        embed_dim=192,
        depth=12,
        num_heads=3,
        drop_path_rate=0.1,
        interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
        conv_inplane=64,
        deform_num_heads=6,
    ),
    neck=dict(in_channels=[192, 192, 192, 192]),
)
