# The same detector trained on merged tokens: the frozen ViT is cheaper in training and inference.
_base_ = "./vit-adapter-s_dinov3.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.05)))
