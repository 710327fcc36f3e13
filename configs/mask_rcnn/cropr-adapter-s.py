# Cropr: the same number of tokens is removed after each block but the last two, 10 % remain; all return before the
# last. Auxiliary heads learn which classes are present in the image.
_base_ = "./svit-adapter-s-0.33x-ftune.py"

model = dict(backbone=dict(norm_eps=1e-6, reducer=dict(_delete_=True, type="Cropr", keep_ratio=0.1, num_classes=80)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(reducer=dict(lr_mult=10.0))))  # they start from random weights
