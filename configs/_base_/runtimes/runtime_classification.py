_base_ = "mmpretrain::_base_/default_runtime.py"

custom_imports = dict(imports=["mmcv_custom", "mmpretrain_custom"])
runner_type = "PruningRunner"
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_last=True),
    token_visualization=dict(type="TokenVisualizationHook", interval=10),
)
randomness = dict(seed=0)
custom_hooks = [
    dict(type="SeedByIterHook"),
    dict(type="ReduceLogsHook"),
    dict(type="ProgressBarHook"),
    dict(type="CostHook"),
]
visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
