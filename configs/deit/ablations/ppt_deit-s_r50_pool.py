# Ablation of PPT's policy: every image pools at every block, which is ToMe at three blocks.
_base_ = "../ppt_deit-s_r50.py"

model = dict(backbone=dict(reducer=dict(threshold=float("inf"))))
