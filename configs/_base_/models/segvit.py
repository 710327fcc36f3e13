# SegViT as in DToP: a plain ViT of size B with a head at each of three stage ends; the last one makes the prediction.
# The normalisation of the AugReg weights; the published config of size B had ImageNet's by mistake.
_base_ = "./segmentor.py"

model = dict(
    type="DToPSegmentor",
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        type="StagedViT",
        img_size=512,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        out_indices=[5, 7, 11],
    ),
    auxiliary_head=[
        dict(type="SegViTHead", in_channels=768, channels=384, num_classes=150, layers_per_decoder=3, in_index=0),
        dict(type="SegViTHead", in_channels=768, channels=384, num_classes=150, layers_per_decoder=3, in_index=1),
    ],
    decode_head=dict(
        type="SegViTHead", in_channels=768, channels=384, num_classes=150, layers_per_decoder=3, in_index=2
    ),
)
