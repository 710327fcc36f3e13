_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(model_name="deit_tiny_patch16_224"))
load_from = "pretrained/deit_tiny_patch16_224-a1311bcf.pth"
