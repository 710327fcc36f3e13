# Dense nano detector from scratch: some eight minutes on two CPU cores.
_base_ = ['../_base_/mask_rcnn_nano.py', '../_base_/digit_scenes.py', '../_base_/recipe_from_scratch.py',
          '../_base_/runtime.py']

default_hooks = dict(logger=dict(interval=25))
