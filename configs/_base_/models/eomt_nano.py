# Nano EoMT for objects: six blocks of 96 channels on patches of 16 of images of 256, twenty queries in the last two.
# Derived configs say which classes there are.
_base_ = "./eomt_panoptic.py"

model = dict(
    backbone=dict(
        model_name="vit_small_patch14_reg4_dinov2",
        img_size=256,
        embed_dim=96,
        depth=6,
        num_heads=3,
        model_args=dict(init_values=1.0),
        num_queries=20,
        query_blocks=2,
        init_cfg=None,
    ),
    panoptic_head=dict(in_channels=96, num_queries=20, num_points=1568),
    test_cfg=dict(max_per_image=20),
)
