# Like runtime.py, which inherits mmdet's. mmdet_custom provides ViT-Adapter.
default_scope = "mmseg"
custom_imports = dict(imports=["mmcv_custom", "mmdet_custom", "mmseg_custom"])
runner_type = "PruningRunner"
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0), dist_cfg=dict(backend="nccl")
)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3, save_last=True),
    visualization=dict(type="SegVisualizationHook"),
    token_visualization=dict(type="TokenVisualizationHook"),
)
randomness = dict(seed=0)
custom_hooks = [
    dict(type="SeedByIterHook"),
    dict(type="ReduceLogsHook"),
    dict(type="ProgressBarHook"),
    dict(type="CostHook", counted=16),
]
visualizer = dict(
    type="SegLocalVisualizer",
    name="visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
load_from = None
resume = False

# `tools/test.py --tta`: each image at six scales of its own size, each also flipped; scores are averaged. Labels
# are loaded as in the test pipeline.
tta_model = dict(type="MeanTTAModel")
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            # Flipped first: torch takes no image one pixel wide as numpy flips it.
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="Resize", scale_factor=factor, keep_ratio=True) for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
            [dict(type="LoadAnnotations")],
            [dict(type="PackSegInputs")],
        ],
    ),
]
