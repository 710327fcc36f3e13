# Dense, from MAE's weights. 4 GPUs x 256 images.
_base_ = "./vit-l_imagenet.py"

model = dict(backbone=dict(model_name="vit_base_patch16_224", drop_path_rate=0.1))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
load_from = "pretrained/mae_pretrain_vit_base.pth"
