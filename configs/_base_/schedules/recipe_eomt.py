# EoMT's published optimisation: AdamW with layer decay and weight decay everywhere, fp16, gradients clipped at 0.01,
# total batch 16; the head warms up first, then the encoder. A config sets how long, and when masked attention fades.
optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    constructor="EoMTOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.8),
    clip_grad=dict(max_norm=0.01),
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=16)
