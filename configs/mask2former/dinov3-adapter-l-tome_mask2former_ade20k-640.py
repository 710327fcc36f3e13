# The same segmentor trained on merged tokens, 52 % of them at the end.
_base_ = "./dinov3-adapter-l_mask2former_ade20k-640.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.02)))
