# ViT-Adapter's published optimisation for Mask2Former on ADE20K: AdamW with layer decay, total batch 16, linear warm-up
# of 1500 steps, then linear decay to zero at 160,000; gradients are clipped as Mask2Former clips them.
_base_ = "./recipe_ade20k_160k.py"

optim_wrapper = dict(
    constructor="LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=2e-5, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7),
    clip_grad=dict(max_norm=0.01),
)
