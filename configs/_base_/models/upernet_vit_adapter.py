# UPerNet, with an auxiliary FCN head on stride 16, on a dense ViT-Adapter of size T.
_base_ = "./segmentor.py"

_norm = dict(type="BN")
model = dict(
    backbone=dict(
        type="mmdet.ViTAdapter",
        embed_dim=192,
        depth=12,
        num_heads=3,
        drop_path_rate=0.1,
        interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
        conv_inplane=64,
        deform_num_heads=6,
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[192, 192, 192, 192],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        num_classes=150,
        norm_cfg=_norm,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=192,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        num_classes=150,
        norm_cfg=_norm,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=0.4),
    ),
)
