# Fine-tunes from the dense one; queries rank the tokens, the lowest skip blocks until the last one. Every patch has a
# query.
_base_ = "./vit-nano_setr_camvid-352_ftune.py"

model = dict(
    backbone=dict(reducer=dict(type="Cropr", keep_ratio=[0.85, 0.75, 0.65, 0.6], num_classes=11, num_queries=484))
)
