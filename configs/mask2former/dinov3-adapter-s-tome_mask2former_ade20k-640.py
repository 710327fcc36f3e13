# The same segmentor trained on merged tokens: the frozen ViT is cheaper in training and inference.
_base_ = "./dinov3-adapter-s_mask2former_ade20k-640.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.04)))
