_base_ = "./deit-nano_digits_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PiToMe", keep_ratio=0.9)))
