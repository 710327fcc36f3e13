# SViT at size S: four epochs of fine-tuning after the 36 dense ones; 8 GPUs x 2 images.
_base_ = "./svit-adapter-t-0.5x-ftune.py"

model = dict(backbone=dict(embed_dim=384, num_heads=6, drop_path_rate=0.2), neck=dict(in_channels=[384, 384, 384, 384]))
load_from = "work_dirs/vit-adapter-s-3x/epoch_36.pth"
train_dataloader = dict(batch_size=2)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=4, milestones=[3], gamma=0.1),
]
train_cfg = dict(max_epochs=4)
