# Cropr: auxiliary heads train the ranking of the tokens; removed tokens return before the last block.
_base_ = "./vit-s_linear_ftune.py"

model = dict(
    backbone=dict(
        reducer=dict(
            type="Cropr",
            keep_ratio=[1, 1, 0.85, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25],
            num_classes=11,
            num_queries=1936,
            num_sampled_queries=484,
        )
    )
)
custom_hooks = _base_.custom_hooks + [dict(type="PruningCurriculumHook")]
