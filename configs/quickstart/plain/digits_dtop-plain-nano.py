# Tokens that surely show no object leave for good after block 1 or 3. The lower threshold of the training leaves the
# test's, 0.9, about the cost of the other methods.
_base_ = './digits_random-plain-nano.py'

model = dict(
    type='DToPMaskRCNN',
    backbone=dict(reducer=dict(_delete_=True, type='DToP', stages=[1, 3], threshold=0.85)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(token_heads=dict(lr_mult=10.0))))
