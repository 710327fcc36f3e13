# A DeiT of timm, including its head; derived configs set the model name and the reducer. ImageNet's normalisation.
model = dict(
    type="PrunedClassifier",
    backbone=dict(type="TimmViT", model_name="deit_small_patch16_224"),
    loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
)
