# Dense, from scratch: about four minutes on two CPU cores.
_base_ = ['../../_base_/deit_nano.py', '../../_base_/digits.py', '../../_base_/recipe_deit_nano.py',
          '../../_base_/runtime_classification.py']

default_hooks = dict(logger=dict(interval=20))
auto_scale_lr = dict(base_batch_size=64)
