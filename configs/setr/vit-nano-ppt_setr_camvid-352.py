# PPT: fine-tunes from the dense one, with a class token for its attention; tokens are pruned or pooled.
_base_ = "./vit-nano_setr_camvid-352_ftune.py"

model = dict(
    backbone=dict(class_token=True, reducer=dict(type="PPT", r=90, blocks=[1, 3], threshold=2.8, relative=True))
)
