# Dense; evaluates the published DeiT-Ti, and trains it from scratch on 4 GPUs x 256 images.
_base_ = "./deit-s.py"

model = dict(backbone=dict(model_name="deit_tiny_patch16_224"))
