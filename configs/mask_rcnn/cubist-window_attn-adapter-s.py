# CubistMerge in windows: three of the 14 rows and columns of each window go before block 1; four epochs of fine-tuning
# after the 36 dense ones, with SViT's recipe.
_base_ = "./svit-adapter-s-0.33x-ftune.py"

model = dict(
    backbone=dict(
        norm_eps=1e-6,
        window_attn=[True, True, False] * 4,
        window_size=14,
        layer_scale=True,
        reducer=dict(_delete_=True, type="CubistMerge", r=3, window_size=14),
    )
)
load_from = "work_dirs/vit-window_attn-adapter-s-3x/epoch_36.pth"
