# The dense ViTDet at about 800 pixels, trained for as long as the pruned ones.
_base_ = ["./pennfudan_vit-adapter-t_ftune.py", "../_base_/models/vit_pyramid_t.py"]

model = _base_._vit_pyramid_t
load_from = "work_dirs/pennfudan_vit-pyramid-t/epoch_10.pth"
