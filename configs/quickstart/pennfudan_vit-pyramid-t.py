# A ViTDet of size T (a plain ViT, a feature pyramid made from its last map) on real photographs, from the trunk and
# heads of the ViT-Adapter detector: at low resolution first.
_base_ = "./pennfudan_vit-adapter-t.py"

model = dict(
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
load_from = "work_dirs/pennfudan_vit-adapter-t_ftune/epoch_2.pth"
