# Ablation of PPT's policy: every image prunes at every block.
_base_ = "../ppt_deit-s_r50.py"

model = dict(backbone=dict(reducer=dict(threshold=0.0)))
