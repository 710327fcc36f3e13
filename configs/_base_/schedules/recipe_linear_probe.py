# DINOv3's linear probe: AdamW at 1e-3, total batch 16, 40,000 iterations, warm-up of 1,500, then cosine.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=1500),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=1500, end=40000, eta_min=0.0),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=10000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=16)
