"""EoMT's head, shared by all its predictions, and the matching and losses of Mask2Former that train it.

Shapes: B images, Q queries, C channels, H x W grid of patches, K classes, u upscaling stages.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, TASK_UTILS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ..errors import ConfigError
from .eomt import EoMTEncoder, Prediction


class UpscaleStage(nn.Module):
    """Double the side of a map: transposed convolution, GELU, depthwise convolution, LayerNorm over channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = LayerNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, 2H, 2W) of a map (B, C, H, W)."""
        return self.norm(self.conv2(self.act(self.conv1(x))))


class MaskProduct(nn.Module):
    """Mask logits, the product of embeddings and map; a module of its own so that its operations are counted apart."""

    def forward(self, embeddings: Tensor, features: Tensor) -> Tensor:
        """Return (B, Q, h, w) of embeddings (B, Q, C) and a map (B, C, h, w)."""
        return torch.einsum("bqc,bchw->bqhw", embeddings, features)


class EoMTHead(BaseModule):
    """Classes and masks from queries and map, with the published parameter names.

    Args:
        embed_dim: C.
        num_classes: K; one more logit stands for no object.
        patch_size: of the encoder; masks are predicted at ``patch_size / 2^u`` pixels, u = max(1, log2(patch) - 2).
    """

    def __init__(self, embed_dim: int, num_classes: int, patch_size: int = 16) -> None:
        super().__init__()
        self.patch_size = patch_size
        stages = max(1, int(math.log2(patch_size)) - 2)
        self.class_head = nn.Linear(embed_dim, num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Linear(embed_dim, embed_dim),
        )
        self.upscale = nn.Sequential(*(UpscaleStage(embed_dim) for _ in range(stages)))
        self.mask_product = MaskProduct()

    def forward(self, queries: Tensor, features: Tensor) -> Prediction:
        """Return class logits (B, Q, K + 1) and mask logits (B, Q, 2^u H, 2^u W).

        Args:
            queries: (B, Q, C), normalized.
            features: (B, C, H, W), normalized.
        """
        return self.class_head(queries), self.mask_product(self.mask_head(queries), self.upscale(features))


class EoMTCriterion:
    """Mix-in that makes a head for EoMT of a toolbox's ``Mask2FormerHead``: its losses, without its decoder.

    ``network`` predicts; the host calls it, because predictions before late blocks mask their attention. What the
    toolbox calls features are the predictions.

    Args:
        embed_dim: C.
        num_things: classes of objects.
        num_stuff: other classes.
        num_queries: Q.
        patch_size: of the encoder.
        num_points: points at which masks are compared.
        train_cfg, test_cfg: as the toolbox passes them on.

    Raises:
        ConfigError: mmdetection, whose losses and matching these are, is not installed.
    """

    num_points: int
    # Of class, binary cross entropy and dice, in matching and loss alike; a query without object counts a tenth.
    WEIGHTS, NO_OBJECT = (2.0, 5.0, 5.0), 0.1
    OVERSAMPLED, UNCERTAIN = 3.0, 0.75

    def _set_up(
        self,
        embed_dim: int,
        num_things: int,
        num_stuff: int,
        num_queries: int,
        patch_size: int,
        num_points: int,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
    ) -> None:
        BaseModule.__init__(self)  # type: ignore[arg-type]
        if not hasattr(self, "loss_by_feat"):
            raise ConfigError(f"{type(self).__name__} trains with mmdetection's losses: install onedl-mmdetection")
        classes = num_things + num_stuff
        self.network = EoMTHead(embed_dim, classes, patch_size)
        self.num_things_classes, self.num_stuff_classes, self.num_classes = num_things, num_stuff, classes
        self.num_queries, self.num_points = num_queries, num_points
        self.oversample_ratio, self.importance_sample_ratio = self.OVERSAMPLED, self.UNCERTAIN
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        of_class, of_bce, of_dice = self.WEIGHTS
        costs = [
            dict(type="mmdet.ClassificationCost", weight=of_class),
            dict(type="mmdet.CrossEntropyLossCost", weight=of_bce, use_sigmoid=True),
            dict(type="mmdet.DiceCost", weight=of_dice, pred_act=True, eps=1.0),
        ]
        self.assigner = TASK_UTILS.build(dict(type="mmdet.HungarianAssigner", match_costs=costs))
        self.sampler = TASK_UTILS.build(dict(type="mmdet.MaskPseudoSampler"), default_args=dict(context=self))
        self.class_weight = [1.0] * classes + [self.NO_OBJECT]
        bce: dict[str, Any] = dict(type="mmdet.CrossEntropyLoss", reduction="mean")
        dice = dict(type="mmdet.DiceLoss", use_sigmoid=True, activate=True, reduction="mean", naive_dice=True, eps=1.0)
        self.loss_cls = MODELS.build(dict(bce, loss_weight=of_class, class_weight=self.class_weight))
        self.loss_mask = MODELS.build(dict(bce, use_sigmoid=True, loss_weight=of_bce))
        self.loss_dice = MODELS.build(dict(dice, loss_weight=of_dice))

    def init_weights(self) -> None:
        """Leave the weights as the constructor drew them."""

    def forward(self, predictions: list[Prediction], batch_data_samples: object = None) -> tuple[list, list]:
        """Return the class logits and the mask logits of all predictions, the form in which the toolbox has them."""
        classes, masks = zip(*predictions, strict=True)
        return list(classes), list(masks)


def check_encoder(encoder: Any, head: Any) -> None:
    """Raise ConfigError where the backbone is no ``EoMTEncoder``, or the head was made for another one."""
    if not isinstance(encoder, EoMTEncoder):
        raise ConfigError(f"EoMT needs backbone.type='EoMTEncoder', and the backbone is a {type(encoder).__name__}")
    wanted = (encoder.num_queries, encoder.embed_dim, encoder.patch_embed.patch_size[0])
    found = (head.num_queries, head.network.class_head.in_features, head.network.patch_size)
    if wanted != found:
        has = "{} queries of {} channels and patches of {} pixels"
        raise ConfigError(
            f"the head is for {has.format(*found)}, and the encoder has {has.format(*wanted)}: give the head the "
            "encoder's num_queries, width (in_channels) and patch_size"
        )
