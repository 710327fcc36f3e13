_base_ = "./deit-nano_digits_ftune.py"

model = dict(backbone=dict(reducer=dict(type="PPT", r=17, blocks=[3, 6, 9], threshold=6e-4)))
