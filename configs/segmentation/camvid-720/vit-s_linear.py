# Size S from DINOv2 weights with one linear layer at 720 x 960; minutes on one GPU in bf16. The class token is there
# for the methods that need it, so that all of them start from these weights.
_base_ = [
    "../../_base_/models/linear_vit.py",
    "../../_base_/datasets/camvid_720.py",
    "../../_base_/schedules/recipe_from_scratch.py",
    "../../_base_/runtimes/runtime_segmentation.py",
]

model = dict(
    data_preprocessor=dict(size=(704, 704)),
    backbone=dict(
        img_size=592,
        embed_dim=384,
        num_heads=6,
        layer_scale=True,
        init_cfg=dict(type="Pretrained", checkpoint="pretrained/vit_small_patch14_dinov2_focus.safetensors"),
    ),
    decode_head=dict(in_channels=384, channels=384, num_classes=11),
    test_cfg=dict(_delete_=True, mode="whole"),
)
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=60, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=60, val_interval=60)
default_hooks = dict(checkpoint=dict(interval=60), logger=dict(interval=15))
