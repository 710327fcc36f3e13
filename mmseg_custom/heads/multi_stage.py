"""SegViT's heads on the maps of several stages of a dense backbone.

Version 1 ("SegViT", Zhang et al., NeurIPS 2022) and two of version 2 ("SegViTv2", Zhang et al., IJCV 2023). Parameter
names are the published ones.

Shapes: B images, K classes, C channels, H x W grid of a map, N = H * W tokens, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from token_pruning.counts import Counts
from token_pruning.errors import SettingError
from token_pruning.tokens import feature_map
from token_pruning.vit import init_linear

from ..losses import Targets
from .decoder import Decoder, Rows
from .pixels import predicted_size, resize


@dataclass(frozen=True)
class Masks:
    """Class logits (B, K, 2 or K + 1) and mask logits (B, K, H, W) of the queries after one layer."""

    class_logits: Tensor
    masks: Tensor


class MultiStageHead(BaseDecodeHead):
    """Base class: queries attend to the maps from the deepest to the shallowest, and the masks of the maps are summed.

    Args:
        in_channels: C of every map.
        channels: width inside the head.
        num_classes: K.
        use_stages: number of maps, counted from the shallowest, as published; each has its own decoder.
        num_layers, num_heads, dropout: of each decoder.
        loss_decode: ``ATMLoss`` by default, also applied to earlier layers or stages, whose loss names end in a number.
        ignore_index: label of pixels without a class.
    """

    gives_scores = True  # predictions are scores, not logits; see ``MeanTTAModel``
    self_attention = False  # whether queries attend to each other
    binary = True  # whether a query is classified as present or absent, or else as one of the classes

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        use_stages: int = 1,
        num_layers: int = 3,
        num_heads: int = 6,
        dropout: float = 0.1,
        loss_decode: dict | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            ignore_index=ignore_index,
            dropout_ratio=0,
            loss_decode=loss_decode or dict(type="ATMLoss"),
            init_cfg=None,
        )
        if use_stages < 1 or num_layers < 1:
            raise SettingError(
                f"use_stages is {use_stages} and num_layers {num_layers}; masks come from the last layer of the last "
                "stage, so give 1 or more"
            )
        del self.conv_seg
        self.use_stages = use_stages
        for i in range(1, use_stages + 1):  # 1 reads the deepest map
            self.add_module(f"input_proj_{i}", nn.Linear(in_channels, channels))
            self.add_module(f"proj_norm_{i}", nn.LayerNorm(channels))
            self.add_module(f"decoder_{i}", Decoder(channels, num_heads, num_layers, dropout, self.self_attention))
        self.q = nn.Embedding(num_classes, channels)
        self.class_embed = nn.Linear(channels, 2 if self.binary else num_classes + 1)
        self.apply(init_linear)

    def forward(self, inputs: Sequence[Tensor]) -> list[Masks]:
        """Return the outputs for maps (B, C, H, W), given shallowest first; the last output is the prediction.

        Raises:
            SettingError: there are fewer maps than ``use_stages``, or a map has other than ``in_channels``.
        """
        if len(inputs) < self.use_stages:
            raise SettingError(
                f"the head needs {self.use_stages} maps and got {len(inputs)}; set the backbone's "
                "out_indices or use_stages"
            )
        if inputs[0].shape[1] != self.in_channels:
            raise SettingError(
                f"the head has in_channels {self.in_channels} and its maps {inputs[0].shape[1]}; set the head's "
                "in_channels to the backbone's embed_dim"
            )
        maps = list(inputs)[: self.use_stages][::-1]
        return self.run_decoders(
            [(getattr(self, f"decoder_{i}"), self._project(i, x), tuple(x.shape[2:])) for i, x in enumerate(maps, 1)]
        )

    def run_decoders(self, stages: list[tuple[Decoder, Tensor, tuple[int, int]]]) -> list[Masks]:
        """Run the decoders over ``stages``: decoder, tokens (B, N, C) and grid of each map, deepest first."""
        queries, found, total = self._queries(stages), [], None
        for decoder, x, grid in stages:
            queries, masks = decoder(queries, x.flatten(0, 1), _rows(x))
            masks = _on_grid(masks, x, grid)
            total = masks if total is None else masks + resize(total, grid)
            found.append(Masks(self.class_embed(queries).float(), total.float()))
        return found

    def _project(self, i: int, x: Tensor) -> Tensor:
        return getattr(self, f"proj_norm_{i}")(getattr(self, f"input_proj_{i}")(x.flatten(2).transpose(1, 2)))

    def _queries(self, stages: list) -> Tensor:
        return self.q.weight.repeat(len(stages[0][1]), 1, 1)

    def scores(self, found: Masks, size: tuple[int, int]) -> Tensor:
        """Return the scores (B, K, h, w); the masks are upsampled before the sigmoid."""
        return found.class_logits.softmax(2)[..., 0, None, None] * resize(found.masks, size).sigmoid()

    def loss_by_feat(self, seg_logits: list[Masks], batch_data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Return the losses of the last output, and those of earlier ones as ``loss_ce_0`` and so on."""
        targets = Targets.of_samples(batch_data_samples, self.num_classes, self.ignore_index)
        losses = {}
        for i, found in enumerate([*seg_logits[-1:], *seg_logits[:-1]]):
            terms = self.loss_decode(found.class_logits, found.masks, targets)
            losses |= {name if not i else f"{name}_{i - 1}": term for name, term in terms.items()}
        pixels = self.scores(seg_logits[-1], tuple(targets.labels.shape[-2:])).detach()
        losses["acc_seg"] = accuracy(pixels, targets.labels, ignore_index=self.ignore_index)
        return losses

    def predict_by_feat(self, seg_logits: list[Masks], batch_img_metas: list[dict]) -> Tensor:
        """Return the scores (B, K, h, w) at the pixels of the input."""
        return self.scores(seg_logits[-1], predicted_size(batch_img_metas))


@MODELS.register_module()
class ATMHeadV2(MultiStageHead):
    """SegViT v2: no self-attention over queries, which are classified as present or absent."""


@MODELS.register_module()
class ATMHead(MultiStageHead):
    """SegViT v1: self-attention over queries, which are classified as one of the classes.

    A pixel's score is the sum over all queries. The published head cannot be trained with mmseg 1.x; this one trains as
    the paper describes.
    """

    self_attention = True
    binary = False

    def scores(self, found: Masks, size: tuple[int, int]) -> Tensor:
        classes = found.class_logits.softmax(2)[..., :-1]
        return torch.einsum("bqk,bqhw->bkhw", classes, resize(found.masks, size).sigmoid())


@MODELS.register_module()
class ATMSingleHeadV2(MultiStageHead):
    """SegViT v2 on a single map, the sum of all maps.

    Every layer of the decoders has losses, and masks are not summed.
    """

    def run_decoders(self, stages: list[tuple[Decoder, Tensor, tuple[int, int]]]) -> list[Masks]:
        _, total, before = stages[0]
        for _, x, grid in stages[1:]:
            if before != grid:
                total = F.interpolate(feature_map(total, before), grid).flatten(2).transpose(1, 2)
            total, before = total + x, grid
        queries, found = self._queries(stages), []
        for decoder, _, _ in stages:
            steps = decoder.each(queries, total.flatten(0, 1), _rows(total))
            queries = steps[-1][0]
            found += [Masks(self.class_embed(q).float(), _on_grid(m, total, before).float()) for q, m in steps]
        return found


def _rows(x: Tensor) -> Rows:
    return Rows(Counts.equal(x.shape[1], x.shape[0]), x.device)


def _on_grid(masks: Tensor, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return packed masks (B * N, K) as maps (B, K, H, W)."""
    return masks.unflatten(0, x.shape[:2]).transpose(1, 2).unflatten(2, grid)
