# The same with a ViT of size L, heads after blocks 7, 15 and 23; classes, attention heads and crops of ADE20K at 640.
_base_ = "./segvit.py"

_head = dict(type="SegViTHead", in_channels=1024, channels=512, num_classes=150, layers_per_decoder=3, num_heads=8)
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        img_size=640,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.3,
        out_indices=[7, 15, 23],
        init_cfg=dict(type="Pretrained", checkpoint="pretrained/vit_large_p16_384_20220308-d4efb41d.pth"),
    ),
    auxiliary_head=[dict(in_index=0, **_head), dict(in_index=1, **_head)],
    decode_head=dict(in_index=2, **_head),
    test_cfg=dict(crop_size=(640, 640), stride=(320, 320)),
)
