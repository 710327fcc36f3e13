# As published: 40 tokens are removed after each block but the last two, 144 of 1025 remain; every patch has a query.
_base_ = "./eva02-l_linear_ade20k-512.py"

model = dict(backbone=dict(reducer=dict(type="Cropr", r=40, num_classes=150, num_queries=1024)))
custom_hooks = _base_.custom_hooks + [dict(type="PruningCurriculumHook")]
