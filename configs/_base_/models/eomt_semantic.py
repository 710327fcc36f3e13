# EoMT-L for semantic segmentation: DINOv2 with registers at patches of 16, 100 queries in the last four blocks. Images
# are tested in windows of img_size, whatever test_cfg says.
_base_ = "./segmentor.py"

model = dict(
    type="EoMTSegmentor",
    backbone=dict(
        type="EoMTEncoder",
        model_name="vit_large_patch14_reg4_dinov2",
        img_size=512,
        num_queries=100,
        query_blocks=4,
        init_cfg=dict(type="Pretrained", checkpoint="pretrained/vit_large_patch14_reg4_dinov2.lvd142m.pth"),
    ),
    decode_head=dict(type="EoMTSemanticHead", in_channels=1024, num_classes=150, num_queries=100),
    test_cfg=dict(_delete_=True, mode="whole"),
)
