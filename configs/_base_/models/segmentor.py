# Common to all segmentors: DeiT's normalisation, crops of 512, sliding windows with an overlap of a third on larger
# images.
model = dict(
    type="PrunedEncoderDecoder",
    data_preprocessor=dict(
        type="SegPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
