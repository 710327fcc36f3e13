# A ViTDet of size T (a plain ViT, a feature pyramid made from its last map) on real photographs, from the trunk and
# heads of the ViT-Adapter detector: at low resolution first.
_base_ = ["./pennfudan_vit-adapter-t.py", "../_base_/models/vit_pyramid_t.py"]

model = _base_._vit_pyramid_t
load_from = "work_dirs/pennfudan_vit-adapter-t_ftune/epoch_2.pth"
