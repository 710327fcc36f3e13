# EVA-02 of size L and a linear layer, as in Cropr's paper: mean and standard deviation 127.5, images of 512,
# evaluated whole with their longer side at 512.
_base_ = "./segmentor.py"

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], test_cfg=dict(size=(512, 512))),
    backbone=dict(
        type="PlainViTBackbone",
        model_name="eva02_large_patch14_224",
        patch_size=16,
        img_size=512,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.2,
    ),
    decode_head=dict(
        type="LinearHead",
        in_channels=1024,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    test_cfg=dict(_delete_=True, mode="whole"),
)
