_base_ = "./deit-nano_digits_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ATS", blocks=[3, 6, 9], keep_ratio=0.67)))
