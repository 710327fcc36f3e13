_base_ = './digits_random-plain-nano.py'

model = dict(backbone=dict(norm_eps=1e-5, reducer=dict(type='SViT', ratio_loss_weight=4.0)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=6.0))))
