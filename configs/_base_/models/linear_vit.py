# A plain ViT of size B and one linear layer on its last map.
_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="PlainViTBackbone", embed_dim=768, depth=12, num_heads=12, drop_path_rate=0.1, class_token=True),
    decode_head=dict(
        type="FCNHead",
        in_channels=768,
        channels=768,
        num_convs=0,
        concat_input=False,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
)
