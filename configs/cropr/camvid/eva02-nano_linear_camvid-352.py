# A nano EVA-02 from scratch, with rotary positions and the linear decoder: minutes on two CPU cores.
_base_ = "../../segmentation/vit-nano_linear_camvid-352.py"

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(model_name="eva02_base_patch14_224", patch_size=16),
    decode_head=dict(
        _delete_=True,
        type="LinearHead",
        in_channels=96,
        num_classes=11,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
