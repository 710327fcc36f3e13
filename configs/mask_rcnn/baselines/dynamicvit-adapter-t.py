# DynamicViT with dropped tokens preserved on the map. Training needs the attention weights of every token and head:
# without checkpointing, tens of gigabytes per image.
_base_ = "../svit-adapter-t-0.5x-ftune.py"

model = dict(
    backbone=dict(
        norm_eps=1e-6, with_cp=True, reducer=dict(_delete_=True, type="DynamicViT", blocks=[3, 6, 9], keep_ratio=0.7)
    )
)
