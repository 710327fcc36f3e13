# A ViT-Adapter of size T with two light interactions and the narrow heads of the nano model, so that the blocks are
# most of the work at 640 px (1,600 tokens).
_base_ = "./mask_rcnn_nano.py"

model = dict(
    backbone=dict(
        img_size=640,
        embed_dim=192,
        depth=12,
        interaction_indexes=[[0, 5], [6, 11]],
        deform_ratio=0.5,
        with_cffn=False,
    ),
    neck=dict(in_channels=[192, 192, 192, 192]),
)
