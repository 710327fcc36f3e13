# ALGM off the shelf: published weights, no training. (Its paper is on segmentation.)
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="ALGM", blocks=[0, 4], threshold=0.88)))
