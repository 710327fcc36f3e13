# Fine-tunes from the dense one while tokens merge in the blocks from the first stage's last on.
_base_ = './vit-nano_setr_camvid-352_ftune.py'

model = dict(backbone=dict(reducer=dict(type='ToMe', r=48)))
