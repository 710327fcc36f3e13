# DINOv3's linear probe of size S (published: 47.0 mIoU). Total batch 16.
_base_ = [
    "../_base_/models/segmentor.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/recipe_linear_probe.py",
    "../_base_/runtimes/runtime_by_iteration.py",
]

model = dict(
    backbone=dict(
        type="PlainViTBackbone",
        model_name="vit_small_patch16_dinov3",
        embed_dim=384,
        depth=12,
        num_heads=6,
        frozen=True,
        init_cfg=dict(type="Pretrained", checkpoint="timm"),
    ),
    decode_head=dict(type="ProbeHead", in_channels=384, num_classes=150, loss_decode=dict(type="CrossEntropyLoss")),
)
train_dataloader = dict(batch_size=16)
