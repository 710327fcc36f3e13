# Cropr on the frozen ViT: its auxiliary heads learn which classes are in the image; all tokens return before the last
# block.
_base_ = "./vit-adapter-s_dinov3.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", keep_ratio=0.4, num_classes=80)))
