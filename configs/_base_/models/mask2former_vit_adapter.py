# Mask2Former for COCO instances on a dense ViT-Adapter of size S from DINOv2.
_base_ = "./mask2former.py"

model = dict(
    type="PrunedMask2Former",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_mask=True,
    ),
    backbone=_base_._adapter_s,
    panoptic_head=dict(
        num_things_classes=80,
        num_stuff_classes=0,
        loss_cls=dict(
            type="mmdet.CrossEntropyLoss", loss_weight=2.0, reduction="mean", class_weight=[1.0] * 80 + [0.1]
        ),
        **_base_._head,
    ),
    panoptic_fusion_head=dict(type="MaskFormerFusionHead", num_things_classes=80, num_stuff_classes=0),
    train_cfg=_base_._matching,
    test_cfg=dict(
        panoptic_on=False,
        semantic_on=False,
        instance_on=True,
        max_per_image=100,
        iou_thr=0.8,
        filter_low_score=True,
    ),
)
