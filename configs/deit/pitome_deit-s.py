# PiToMe off the shelf: published weights, no training; 2.9 GMACs.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="PiToMe", keep_ratio=0.915)))
