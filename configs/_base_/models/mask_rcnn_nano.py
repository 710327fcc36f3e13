# A Mask R-CNN small enough to train on two CPU cores in minutes. Group norm, seeded sampling and a global mask mean
# make its training independent of how the batch is split over processes.
_base_ = "./mask_rcnn_vit_adapter.py"

_group_norm = dict(type="GN", num_groups=8)
_sampler = dict(type="SeededSampler")
model = dict(
    backbone=dict(
        img_size=256,
        embed_dim=96,
        depth=6,
        num_heads=3,
        drop_path_rate=0.0,
        interaction_indexes=[[0, 1], [2, 3], [4, 5]],
        use_extra_extractor=False,
        conv_inplane=16,
        n_points=2,
        norm_cfg=_group_norm,
    ),
    neck=dict(in_channels=[96, 96, 96, 96], out_channels=64, norm_cfg=_group_norm),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(output_size=10, sampling_ratio=1)),
        mask_head=dict(
            type="GlobalMeanMaskHead",
            num_convs=2,
            in_channels=64,
            conv_out_channels=64,
            num_classes=10,
            norm_cfg=_group_norm,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=_sampler),
        rpn_proposal=dict(nms_pre=300, max_per_img=200),
        rcnn=dict(sampler=dict(type="SeededSampler", num=64, pos_fraction=0.5), mask_size=20),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=50)),
)
