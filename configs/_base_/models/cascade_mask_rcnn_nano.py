# A ViTDet small enough to train on two CPU cores in minutes.
_base_ = "./cascade_mask_rcnn_vit_pyramid.py"

model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(img_size=256, embed_dim=96, depth=6, num_heads=3, drop_path_rate=0.0),
    neck=dict(in_channels=96, out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, num_convs=1),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        bbox_head=[
            dict(head, type="Shared2FCBBoxHead", in_channels=64, fc_out_channels=256, num_classes=10)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(output_size=10, sampling_ratio=1)),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=200),
        rcnn=[dict(stage, sampler=dict(stage.sampler, num=64), mask_size=20) for stage in _base_.model.train_cfg.rcnn],
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=50)),
)
