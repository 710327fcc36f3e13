"""Tiny models of all tasks, dense and pruned, to export."""

import timm
import torch
from torch import nn

import token_pruning
from mmcv_custom.cli.launch import build_model, read_config

DENSE, PRUNED = "configs/deit/cifar10/deit-nano_cifar10.py", "configs/deit/cifar10/tome_deit-nano_cifar10.py"
SEGMENTOR = "configs/segmentation/vit-nano_linear_camvid-352.py"
SVIT = dict(type="SViT", mode="ratio", keep_ratio=0.5)
DETECTOR = "configs/quickstart/digits_vit-adapter-nano.py"
CASCADE = "configs/quickstart/digits_vit-pyramid-nano.py"
SHALLOW = {"model.backbone.depth": 2}
FEW = SHALLOW | {"model.test_cfg.rpn.max_per_img": 20, "model.test_cfg.rcnn.max_per_img": 10}
ADAPTER = FEW | {"model.backbone.interaction_indexes": [[0, 1]]}
BOTH = ["batch", "size"]
# Name -> config, options, example (B, h, w), what is free.
CASES = {
    "classifier": (DENSE, SHALLOW, (2, 32, 32), ["batch"]),
    "classifier, ToMe": (PRUNED, SHALLOW | {"model.backbone.reducer": dict(type="ToMe", r=8)}, (2, 32, 32), ["batch"]),
    "segmentor": (SEGMENTOR, SHALLOW, (1, 64, 96), BOTH),
    "segmentor, SViT": (SEGMENTOR, SHALLOW | {"model.backbone.reducer": SVIT}, (1, 64, 96), BOTH),
    "detector": (DETECTOR, ADAPTER, (1, 96, 128), BOTH),
    "detector, ToMe": (DETECTOR, ADAPTER | {"model.backbone.reducer": dict(type="ToMe", r=4)}, (1, 96, 128), BOTH),
}


def built(config, options):
    """Return the model of a config with random weights that tell classes and objects apart."""
    torch.manual_seed(0)
    model = build_model(read_config(config, options), None)
    if hasattr(model, "roi_head"):
        nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight, std=0.3)
    return model


def applied():
    """Return a timm model with a reducer."""
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", embed_dim=48, depth=3, num_heads=3, img_size=64, num_classes=7)
    return token_pruning.apply(model.eval(), dict(type="EViT", keep_ratio=0.6, blocks=[1]))
