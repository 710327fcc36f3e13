_base_ = "./deit-nano_digits_ftune.py"

model = dict(backbone=dict(reducer=dict(type="MPM", merges=3)))
