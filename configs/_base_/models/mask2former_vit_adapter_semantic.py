# Mask2Former for the 150 classes of ADE20K on a dense ViT-Adapter of size S from DINOv2; windows of 640 overlap by a
# third.
_base_ = ["./segmentor.py", "./mask2former.py"]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=_base_._adapter_s,
    decode_head=dict(
        num_classes=150,
        loss_cls=dict(
            type="mmdet.CrossEntropyLoss", loss_weight=2.0, reduction="mean", class_weight=[1.0] * 150 + [0.1]
        ),
        train_cfg=_base_._matching,
        **_base_._head,
    ),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
