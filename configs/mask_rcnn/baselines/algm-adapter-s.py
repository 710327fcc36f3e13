# ALGM: uniform windows are merged first, similar tokens all over the image later; not in the SViT paper.
_base_ = "../svit-adapter-s-0.33x-ftune.py"

model = dict(backbone=dict(norm_eps=1e-6, reducer=dict(_delete_=True, type="ALGM", blocks=[0, 4], threshold=0.88)))
