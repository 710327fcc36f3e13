# DToP without further training: confident tokens exit after blocks 5 and 7.
_base_ = "./vit-s_setr_camvid-720.py"

model = dict(backbone=dict(reducer=dict(type="DToP", stages=[5, 7], threshold=0.95)))
