# Dense, from scratch: about an hour on two CPU cores.
_base_ = [
    "../../_base_/models/deit_nano.py",
    "../../_base_/datasets/cifar10.py",
    "../../_base_/schedules/recipe_deit_nano.py",
    "../../_base_/runtimes/runtime_classification.py",
]

param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=2, convert_to_iter_based=True),
]
