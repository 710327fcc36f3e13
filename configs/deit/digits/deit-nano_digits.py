# Dense, from scratch: about four minutes on two CPU cores.
_base_ = [
    "../../_base_/models/deit_nano.py",
    "../../_base_/datasets/digits.py",
    "../../_base_/schedules/recipe_deit_nano.py",
    "../../_base_/runtimes/runtime_classification.py",
]

default_hooks = dict(logger=dict(interval=20))
auto_scale_lr = dict(base_batch_size=64)
