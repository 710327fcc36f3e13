_base_ = "./deit-nano_digits_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ALGM", blocks=[0, 4], threshold=0.88)))
