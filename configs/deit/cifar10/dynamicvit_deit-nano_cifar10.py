# Distilled from the dense model, as in DynamicViT's own recipe.
_base_ = "./deit-nano_cifar10_ftune.py"

model = dict(
    backbone=dict(reducer=dict(type="DynamicViT", blocks=[3, 6, 9], keep_ratio=0.67)),
    distillation=dict(
        type="DynamicViTDistillation",
        teacher=dict(
            type="TimmViT",
            model_name="deit_tiny_patch16_224",
            img_size=32,
            patch_size=4,
            embed_dim=96,
            depth=12,
            num_heads=3,
            num_classes=10,
            checkpoint="work_dirs/deit-nano_cifar10/epoch_40.pth",
        ),
    ),
)
