# ToMe without training, on the dense weights that come with the project.
_base_ = "../digits_vit-adapter-t_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ToMe", r=0.06, blocks=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])))
