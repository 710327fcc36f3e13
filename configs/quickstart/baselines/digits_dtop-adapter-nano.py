# DToP: tokens that surely show no object leave for good after the first or second interaction.
_base_ = '../digits_svit-adapter-nano.py'

model = dict(
    type='DToPMaskRCNN',
    backbone=dict(
        norm_eps=1e-6,
        reducer=dict(_delete_=True, type='DToP', stages=[1, 3], threshold=0.9)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True, token_heads=dict(lr_mult=10.0))))
