_base_ = "mmdet::_base_/default_runtime.py"

custom_imports = dict(imports=["mmcv_custom", "mmdet_custom"])
runner_type = "PruningRunner"
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_last=True), token_visualization=dict(type="TokenVisualizationHook")
)
randomness = dict(seed=0)
custom_hooks = [
    dict(type="SeedByIterHook"),
    dict(type="ReduceLogsHook"),
    dict(type="ProgressBarHook"),
    dict(type="CostHook", counted=8),  # few, because images are large
]
visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
