# 40 tokens are removed after each block but the last two, 144 of 1025 remain; each step trains a quarter of the
# queries.
_base_ = "./vit-l_linear_ade20k-512_64e.py"

model = dict(
    backbone=dict(reducer=dict(type="Cropr", r=40, num_classes=150, num_queries=1024, num_sampled_queries=256))
)
custom_hooks = _base_.custom_hooks + [dict(type="PruningCurriculumHook")]
