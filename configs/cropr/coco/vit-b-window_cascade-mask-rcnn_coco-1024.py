# Dense, windows of 14 in all blocks but every third, as ViTDet has it: the other way to spare attention.
_base_ = "./vit-b_cascade-mask-rcnn_coco-1024.py"

model = dict(backbone=dict(window_attn=[True, True, False] * 4, window_size=14))
