# The backbone and the neck of a ViTDet of size T with the narrow heads of the nano model, in the place of a
# ViT-Adapter's.
_vit_pyramid_t = dict(
    backbone=dict(
        _delete_=True,
        type="PlainViTBackbone",
        img_size=640,
        embed_dim=192,
        depth=12,
        num_heads=3,
        final_norm=False,
    ),
    neck=dict(_delete_=True, type="SimpleFeaturePyramid", in_channels=192, out_channels=64),
)
