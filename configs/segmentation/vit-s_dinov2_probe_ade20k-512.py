# The same probe of DINOv2 at its patch of 14: crops of 518, which 14 divides.
_base_ = "./vit-s_dinov3_probe_ade20k-512.py"

_pipeline = _base_.train_dataloader.dataset.pipeline
_pipeline[3].crop_size = (518, 518)
model = dict(
    data_preprocessor=dict(size=(518, 518)),
    backbone=dict(model_name="vit_small_patch14_dinov2", img_size=518),
    decode_head=dict(patch_size=14),
    test_cfg=dict(crop_size=(518, 518), stride=(345, 345)),
)
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
