# ToMe: the most similar tokens are merged in every block.
_base_ = "./vit-adapter-s_pennfudan-800_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.066)))
