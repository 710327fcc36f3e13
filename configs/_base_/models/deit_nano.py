# A DeiT for images of 32 pixels: 8 x 8 patches and a class token, 12 blocks; trains on 250 images a second on two
# cores.
_base_ = "./deit.py"

model = dict(
    backbone=dict(
        model_name="deit_tiny_patch16_224",
        img_size=32,
        patch_size=4,
        embed_dim=96,
        depth=12,
        num_heads=3,
        num_classes=10,
    )
)
