# Insight 3, dynamic rate: here evaluation keeps exactly the ratio in every image.
_base_ = "./svit-adapter-t_image-ratio.py"

model = dict(backbone=dict(reducer=dict(mode="ratio")))
