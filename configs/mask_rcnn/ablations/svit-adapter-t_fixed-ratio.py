# Ablation of insight 3, dynamic rate: evaluation keeps exactly the configured ratio in every image.
_base_ = "./svit-adapter-t_image-ratio.py"

model = dict(backbone=dict(reducer=dict(mode="ratio")))
