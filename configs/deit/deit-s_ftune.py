# Thirty more epochs of the published weights at a low learning rate (1e-5 per 512 images, PPT's recipe): the
# reference for the pruned models, which start from the same weights. 4 GPUs x 256 images.
_base_ = "./deit-s.py"

load_from = "pretrained/deit_small_patch16_224-cd65a155.pth"
optim_wrapper = dict(optimizer=dict(lr=2e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.5, by_epoch=True, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)
