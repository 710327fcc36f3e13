# EViT's published fine-tuning: 8 GPUs x 256 images, no warm-up.
_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="EViT", blocks=[3, 6, 9], keep_ratio=0.7, fuse=True)))
optim_wrapper = dict(optimizer=dict(lr=8e-5, weight_decay=1e-6))
param_scheduler = [dict(type="CosineAnnealingLR", eta_min_ratio=0.025, by_epoch=True, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=2048)
