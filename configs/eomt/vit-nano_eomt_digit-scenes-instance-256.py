# Nano EoMT from scratch on data that needs no download, instances of ten digits. In these epochs it learns their masks;
# which digit it is takes more.
_base_ = [
    "../_base_/models/eomt_panoptic.py",
    "../_base_/datasets/digit_scenes.py",
    "../_base_/schedules/recipe_from_scratch.py",
    "../_base_/runtimes/runtime.py",
]

_classes = dict(num_things_classes=10, num_stuff_classes=0)
model = dict(
    data_preprocessor=dict(pad_seg=False),
    backbone=dict(
        model_name="vit_small_patch14_reg4_dinov2",
        img_size=256,
        embed_dim=96,
        depth=6,
        num_heads=3,
        model_args=dict(init_values=1.0),
        num_queries=20,
        query_blocks=2,
        init_cfg=None,
    ),
    panoptic_head=dict(in_channels=96, num_queries=20, num_points=3136, **_classes),
    panoptic_fusion_head=_classes,
    test_cfg=dict(panoptic_on=False, max_per_image=50),
)
val_evaluator = dict(metric="segm")
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=25))
custom_hooks = _base_.custom_hooks + [dict(type="MaskAnnealingHook", start=[200, 300], end=[300, 500])]
