# A ViT of timm initialised from a masked autoencoder: all tokens are pooled, including the class token. ImageNet's
# normalisation; mixup and cutmix.
model = dict(
    type="PrunedClassifier",
    backbone=dict(
        type="TimmViT",
        model_name="vit_large_patch16_224",
        global_pool="avg",
        pool_include_prefix=True,
        drop_path_rate=0.2,
        num_classes=1000,
    ),
    loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
)
