# EoMT-L from DINOv3 on COCO panoptic: twice the learning rate, longer warm-ups, and the first mask fades early.
_base_ = "./vit-l_eomt_coco-panoptic-640.py"

model = dict(
    backbone=dict(
        model_name="vit_large_patch16_dinov3_qkvb",
        init_cfg=dict(checkpoint="pretrained/vit_large_patch16_dinov3_qkvb.lvd1689m.pth"),
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [dict(type="EoMTLR", head_warmup=2000, encoder_warmup=3000, end=88716)]
custom_hooks = _base_.custom_hooks[:-1] + [
    dict(type="MaskAnnealingHook", start=[0, 29564, 44346, 59128], end=[3000, 44346, 59128, 73910])
]
