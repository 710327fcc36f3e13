# Fine-tunes from the dense nano segmentor; the pruning rate rises over the first ten epochs.
_base_ = "../../segmentation/vit-nano_linear_camvid-352_ftune.py"

model = dict(
    backbone=dict(reducer=dict(type="Cropr", keep_ratio=[0.6, 0.35, 0.2, 0.1], num_classes=11, num_queries=484))
)
custom_hooks = _base_.custom_hooks + [dict(type="PruningCurriculumHook")]
