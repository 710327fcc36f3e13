# APT, then ToMe on its tokens, off the shelf.
_base_ = "./apt_deit-s.py"

model = dict(backbone=dict(reducer=dict(then=dict(type="ToMe", r=8))))
