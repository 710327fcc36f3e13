# ViTDet: Cascade Mask R-CNN on a plain ViT of size B with global attention and a feature pyramid made from its last
# map. LayerNorm over channels in neck and heads; two convolutions in the RPN, four before the box heads' linear
# layer.
_base_ = "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py"

_norm = dict(type="LN2d", eps=1e-6)
_box_head = dict(
    type="Shared4Conv1FCBBoxHead",
    in_channels=256,
    conv_out_channels=256,
    fc_out_channels=1024,
    roi_feat_size=7,
    num_classes=80,
    norm_cfg=_norm,
    reg_class_agnostic=True,
    loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
)
_widths = ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))
model = dict(
    type="PrunedCascadeRCNN",
    data_preprocessor=dict(batch_augments=[dict(type="BatchFixedSizePad", size=(1024, 1024), pad_mask=True)]),
    backbone=dict(
        _delete_=True,
        type="PlainViTBackbone",
        img_size=1024,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        final_norm=False,
    ),
    neck=dict(_delete_=True, type="SimpleFeaturePyramid", in_channels=768),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=[
            dict(
                _box_head,
                bbox_coder=dict(
                    type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[xy, xy, wh, wh]
                ),
            )
            for xy, wh in _widths
        ],
        mask_head=dict(norm_cfg=_norm),
    ),
)
