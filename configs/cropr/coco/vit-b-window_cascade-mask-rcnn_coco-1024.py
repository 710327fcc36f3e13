# Dense, windows of 14 in all blocks but every third, as in ViTDet: the other way to make attention cheaper.
_base_ = "./vit-b_cascade-mask-rcnn_coco-1024.py"

model = dict(backbone=dict(window_attn=[True, True, False] * 4, window_size=14))
