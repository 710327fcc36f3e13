_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(model_name="deit_base_patch16_224"))
load_from = "pretrained/deit_base_patch16_224-b5f2ef4d.pth"
