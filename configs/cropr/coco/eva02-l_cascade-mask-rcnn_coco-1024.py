# Dense EVA-02-L, CLIP's normalisation. 64 GPUs x 1 image.
_base_ = "./vit-b_cascade-mask-rcnn_coco-1024.py"

model = dict(
    data_preprocessor=dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323]),
    backbone=dict(
        model_name="eva02_large_patch14_224",
        patch_size=16,
        class_token=False,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.4,
        with_cp=True,
        init_cfg=dict(checkpoint="pretrained/eva02_large_patch14_224.mim_m38m.pth"),
    ),
    neck=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
