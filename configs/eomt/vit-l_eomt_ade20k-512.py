# EoMT-L on ADE20K, semantic, 31 epochs. 4 GPUs x 4 images.
_base_ = [
    "../_base_/models/eomt_semantic.py",
    "../_base_/datasets/ade20k_512_black.py",
    "../_base_/schedules/recipe_eomt.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

param_scheduler = [dict(type="EoMTLR", head_warmup=500, encoder_warmup=1000, end=39153)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=39153, val_interval=4000)
custom_hooks = _base_.custom_hooks + [
    dict(type="MaskAnnealingHook", start=[6520, 13040, 19560, 26080], end=[13040, 19560, 26080, 32600])
]
