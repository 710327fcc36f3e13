# EoMT-L from DINOv3 on ADE20K, semantic: 16 epochs without layer decay, and the first mask fades early.
_base_ = "./vit-l_eomt_ade20k-512.py"

model = dict(
    backbone=dict(
        model_name="vit_large_patch16_dinov3_qkvb",
        init_cfg=dict(checkpoint="pretrained/vit_large_patch16_dinov3_qkvb.lvd1689m.pth"),
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
param_scheduler = [dict(type="EoMTLR", head_warmup=2000, encoder_warmup=3000, end=20208)]
train_cfg = dict(max_iters=20208)
custom_hooks = _base_.custom_hooks[:-1] + [
    dict(type="MaskAnnealingHook", start=[0, 6520, 9780, 13040], end=[3000, 9780, 13040, 16300])
]
