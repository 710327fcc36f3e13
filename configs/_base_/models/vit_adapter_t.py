# A dense ViT-Adapter of size T, as the bases of detectors build it.
_vit_adapter_t = dict(
    _delete_=True,
    type="ViTAdapter",
    embed_dim=192,
    depth=12,
    num_heads=3,
    drop_path_rate=0.1,
    interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
    conv_inplane=64,
    deform_num_heads=6,
)
