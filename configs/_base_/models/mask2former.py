# Parts of Mask2Former on ViT-Adapter, for both toolboxes: a backbone of size S from DINOv2 (patch 14 resampled to 16,
# no class token), Mask2Former's own head of 256 channels with 100 queries, and its matching. loss_cls depends on the
# number of classes and is not among them.
_adapter_s = dict(
    type="mmdet.ViTAdapter",
    model_name="vit_small_patch14_dinov2",
    patch_size=16,
    img_size=592,
    class_token=False,
    embed_dim=384,
    depth=12,
    num_heads=6,
    drop_path_rate=0.2,
    interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
    conv_inplane=64,
    deform_num_heads=6,
    deform_ratio=1.0,
    init_cfg=dict(type="Pretrained", checkpoint="timm"),
)

_attention = dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True)
_ffn = dict(embed_dims=256, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type="ReLU", inplace=True))
_positions = dict(num_feats=128, normalize=True)
_mask_loss = dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, reduction="mean", loss_weight=5.0)
_dice_loss = dict(
    type="mmdet.DiceLoss",
    use_sigmoid=True,
    activate=True,
    reduction="mean",
    naive_dice=True,
    eps=1.0,
    loss_weight=5.0,
)
_head = dict(
    type="Mask2FormerHead",
    in_channels=[384, 384, 384, 384],
    strides=[4, 8, 16, 32],
    feat_channels=256,
    out_channels=256,
    num_queries=100,
    num_transformer_feat_level=3,
    pixel_decoder=dict(
        type="mmdet.MSDeformAttnPixelDecoder",
        num_outs=3,
        norm_cfg=dict(type="GN", num_groups=32),
        act_cfg=dict(type="ReLU"),
        encoder=dict(
            num_layers=6,
            layer_cfg=dict(
                self_attn_cfg=dict(num_levels=3, num_points=4, **_attention),
                ffn_cfg=dict(feedforward_channels=1024, **_ffn),
            ),
        ),
        positional_encoding=_positions,
    ),
    enforce_decoder_input_project=False,
    positional_encoding=_positions,
    transformer_decoder=dict(
        return_intermediate=True,
        num_layers=9,
        layer_cfg=dict(
            self_attn_cfg=_attention,
            cross_attn_cfg=_attention,
            ffn_cfg=dict(feedforward_channels=2048, **_ffn),
        ),
    ),
    loss_mask=_mask_loss,
    loss_dice=_dice_loss,
)

_matching = dict(
    num_points=12544,
    oversample_ratio=3.0,
    importance_sample_ratio=0.75,
    assigner=dict(
        type="mmdet.HungarianAssigner",
        match_costs=[
            dict(type="mmdet.ClassificationCost", weight=2.0),
            dict(type="mmdet.CrossEntropyLossCost", weight=5.0, use_sigmoid=True),
            dict(type="mmdet.DiceCost", weight=5.0, pred_act=True, eps=1.0),
        ],
    ),
    sampler=dict(type="mmdet.MaskPseudoSampler"),
)
