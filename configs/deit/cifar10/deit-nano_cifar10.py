# Dense, from scratch: about an hour on two CPU cores.
_base_ = ['../../_base_/deit_nano.py', '../../_base_/cifar10.py', '../../_base_/recipe_deit_nano.py',
          '../../_base_/runtime_classification.py']
