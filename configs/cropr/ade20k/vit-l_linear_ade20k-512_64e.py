# A dense plain ViT with Cropr's recipe, from AugReg. Total batch 8.
_base_ = "./eva02-l_linear_ade20k-512.py"

model = dict(
    backbone=dict(
        model_name=None,
        class_token=True,
        init_cfg=dict(checkpoint="pretrained/vit_large_patch16_224.augreg_in21k.pth"),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
