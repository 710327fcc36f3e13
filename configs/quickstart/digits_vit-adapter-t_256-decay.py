# Second stage of the weights in weights/: the same small scenes once more, the learning rate decays.
_base_ = "./digits_vit-adapter-t_256.py"

load_from = "work_dirs/digits_vit-adapter-t_256/epoch_1.pth"
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=1, eta_min=1e-4, convert_to_iter_based=True),
]
