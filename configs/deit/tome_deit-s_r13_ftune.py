# ToMe, fine-tuned like PPT. (Its paper trains 300 epochs from scratch.)
_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=13)))
