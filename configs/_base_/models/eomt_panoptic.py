# EoMT-L for panoptic and instance segmentation: DINOv2 with registers at patches of 16, 200 queries in the last four
# blocks.
model = dict(
    type="EoMTDetector",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_seg=True,
        seg_pad_value=255,
    ),
    backbone=dict(
        type="EoMTEncoder",
        model_name="vit_large_patch14_reg4_dinov2",
        img_size=640,
        num_queries=200,
        query_blocks=4,
        init_cfg=dict(type="Pretrained", checkpoint="pretrained/vit_large_patch14_reg4_dinov2.lvd142m.pth"),
    ),
    panoptic_head=dict(
        type="EoMTPanopticHead", in_channels=1024, num_things_classes=80, num_stuff_classes=53, num_queries=200
    ),
    panoptic_fusion_head=dict(type="MaskFormerFusionHead", num_things_classes=80, num_stuff_classes=53),
    test_cfg=dict(
        panoptic_on=True,
        instance_on=True,
        object_mask_thr=0.8,
        iou_thr=0.8,
        filter_low_score=True,
        max_per_image=100,
    ),
)
