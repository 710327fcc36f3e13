# ALGM: uniform windows are merged in the first block, similar tokens all over the image in the fifth.
_base_ = "./vit-s_linear_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ALGM", blocks=[0, 4], threshold=0.88)))
