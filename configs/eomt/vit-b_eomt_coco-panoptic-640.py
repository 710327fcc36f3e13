# EoMT-B on COCO panoptic: three blocks with queries, 24 epochs. 4 GPUs x 4 images.
_base_ = "./vit-l_eomt_coco-panoptic-640.py"

model = dict(
    backbone=dict(
        model_name="vit_base_patch14_reg4_dinov2",
        query_blocks=3,
        init_cfg=dict(checkpoint="pretrained/vit_base_patch14_reg4_dinov2.lvd142m.pth"),
    ),
    panoptic_head=dict(in_channels=768),
)
param_scheduler = [dict(type="EoMTLR", head_warmup=500, encoder_warmup=1000, end=177432)]
train_cfg = dict(max_epochs=24)
custom_hooks = _base_.custom_hooks[:-1] + [
    dict(type="MaskAnnealingHook", start=[29564, 73910, 118256], end=[59128, 103474, 147820])
]
