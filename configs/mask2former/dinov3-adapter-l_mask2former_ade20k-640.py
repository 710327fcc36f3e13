# Size L; 8 GPUs x 2 images.
_base_ = "./dinov3-adapter-s_mask2former_ade20k-640.py"

model = dict(
    backbone=dict(
        model_name="vit_large_patch16_dinov3",
        embed_dim=1024,
        depth=24,
        num_heads=16,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
        deform_num_heads=16,
    ),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024]),
)
