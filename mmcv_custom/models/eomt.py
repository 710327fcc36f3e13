"""EoMT, a plain ViT that segments with queries among its tokens and no decoder, with token reduction.

"Your ViT is Secretly an Image Segmentation Model", Kerssies et al., CVPR 2025.

Shapes: B images, h x w pixels, H x W grid of patches, P prefix tokens (class token, registers), Q queries, N positions
(queries, prefix, grid), C channels, k blocks that queries go through, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.models.eva import Eva
from torch import Tensor, nn

from token_pruning import Reducer, StackForward, build_reducer
from token_pruning.apply import check_timm
from token_pruning.attention import rope_with_prefix
from token_pruning.errors import SettingError
from token_pruning.forward import check_execution
from token_pruning.tokens import feature_map

from .vit_backbone import HostViT

Prediction = tuple[Tensor, Tensor]  # class logits (B, Q, K + 1), mask logits (B, Q, h / stride, w / stride)
Head = Callable[[Tensor, Tensor], Prediction]


@MODELS.register_module()
class EoMTEncoder(BaseModule):
    """A timm ViT whose last blocks also run learned queries; registered in MMEngine's root registry.

    The parameters have timm's names, beside ``query.weight`` and the buffer ``attn_mask_probs``. A reducer may prune
    any block; queries are prefix tokens, which it neither scores nor merges nor drops. The grid is restored once before
    the head, and before each earlier prediction.

    Args:
        model_name: a ``VisionTransformer`` or ``Eva`` of timm: "vit_large_patch14_reg4_dinov2",
            "vit_large_patch16_dinov3_qkvb", ...
        img_size: side or (height, width) of the images, the only size that the encoder takes.
        patch_size: of the patches; a pretrained kernel of another size is resampled when it is loaded.
        num_queries: Q.
        query_blocks: k; queries enter before block ``depth - k``.
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None for the dense model.
        execution: "exact" or "capacity", see ``StackForward``; may be changed at any time.
        norm_eps: of all LayerNorms, if not timm's.
        with_cp: gradient checkpointing of the blocks.
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=FILE)`` with a ViT of timm, DINOv2 or DINOv3.
        vit: further arguments of the timm model (drop_path_rate, depth, embed_dim, ...).

    Raises:
        SettingError: timm has no such model, or sizes, k, Q or the reducer do not fit it.
        TypeError: it is a model whose blocks the core cannot run.
    """

    reducer: Reducer | None
    init_weights = HostViT.init_weights

    def __init__(
        self,
        model_name: str,
        img_size: Sequence[int] | int,
        patch_size: int = 16,
        num_queries: int = 200,
        query_blocks: int = 4,
        reducer: dict | Reducer | None = None,
        execution: str = "exact",
        norm_eps: float | None = None,
        with_cp: bool = False,
        init_cfg: dict | None = None,
        **vit: Any,
    ) -> None:
        super().__init__(init_cfg)
        check_execution(execution)
        self.execution, self.with_cp = execution, with_cp
        self.img_size = _checked_size(img_size, patch_size)
        self._take_over(_timm_model(model_name, self.img_size, patch_size, **vit))
        depth = len(self.blocks)
        if num_queries < 1 or not 1 <= query_blocks <= depth:
            raise SettingError(
                f"{num_queries} queries in the last {query_blocks} blocks do not fit {model_name} of {depth} blocks: "
                f"give num_queries of at least 1 and query_blocks from 1 to {depth}"
            )
        for norm in self.modules() if norm_eps is not None else ():
            if isinstance(norm, nn.LayerNorm):
                norm.eps = norm_eps
        self.depth, self.num_queries, self.query_blocks = depth, num_queries, query_blocks
        self.query = nn.Embedding(num_queries, self.embed_dim)
        self.register_buffer("attn_mask_probs", torch.zeros(query_blocks))
        self._probs = (0.0,) * query_blocks  # the same where reading them costs nothing
        self.register_load_state_dict_post_hook(_read_probs)
        self.reducer = build_reducer(reducer, self.embed_dim, depth)
        if self.reducer is not None:
            self.reducer.check_host(self.cls_token is not None)
            if self.reducer.needs_class_scores and self.reducer.pruned_blocks:
                raise SettingError(
                    f"{type(self.reducer).__name__} drops tokens on class scores of patches, and EoMT predicts classes "
                    "of queries only: use a method without class scores (ToMe, EViT, SViT, ...)"
                )

    def _take_over(self, vit: Any) -> None:
        """Make the parts and settings of a timm model this module's own, under the same names."""
        self._timm = type(vit)
        for name, child in vit.named_children():
            if name not in ("head", "head_drop", "fc_norm"):
                self.add_module(name, child)
        for name, parameter in vit.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, value in vars(vit).items():
            if not name.startswith("_") and name not in ("training", "pretrained_cfg", "default_cfg"):
                setattr(self, name, value)
        for name in ("cls_token", "reg_token", "pos_embed"):  # None where a model has none
            if not hasattr(self, name):
                setattr(self, name, getattr(vit, name, None))
        self.patch_embed.strict_img_size = False  # `forward` says it in a sentence

    @property
    def mask_probs(self) -> tuple[float, ...]:
        """The probability in each of the last k blocks that a query attends only to the pixels of its own mask."""
        return self._probs

    @mask_probs.setter
    def mask_probs(self, probs: Sequence[float]) -> None:
        if len(probs) != self.query_blocks or any(not 0 <= p <= 1 for p in probs):
            raise SettingError(
                f"mask_probs is {list(probs)}: give a probability for each of {self.query_blocks} blocks"
            )
        self.attn_mask_probs.copy_(torch.tensor(probs, dtype=self.attn_mask_probs.dtype))
        self._probs = tuple(float(p) for p in probs)

    def embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int], Tensor | None]:
        """Return the tokens (B, P + H * W, C) of images (B, 3, h, w), their grid, and rotary positions or None."""
        x, rope = self._timm._pos_embed(self, self.patch_embed(image)), None
        if self._timm is Eva:
            x, rope = x
            rope = None if rope is None else rope_with_prefix(rope, self.num_prefix_tokens)
        return self.norm_pre(x), self.patch_embed.dynamic_feat_size(image.shape[-2:]), rope

    def forward(self, image: Tensor, head: Head | None = None) -> list[Tensor]:
        """Run the encoder on images (B, 3, h, w) of ``img_size``.

        Args:
            head: predicts from queries and map before each of the last k blocks: in training before all of them, in
                evaluation before those with masked attention. Without it, every query attends to all tokens.

        Returns:
            The queries (B, Q, C) and the map (B, C, H, W), both after the final norm, then the class logits and the
            mask logits of each of the head's predictions.

        Raises:
            SettingError: the images have another size.
        """
        if tuple(image.shape[-2:]) != self.img_size:
            raise SettingError(
                f"an image of {image.shape[-2]} x {image.shape[-1]} pixels does not fit an EoMTEncoder made for "
                f"{self.img_size[0]} x {self.img_size[1]}: resize, pad or crop to that size, or set img_size"
            )
        x, grid, rope = self.embed(image)
        stack = StackForward(
            self.blocks,
            self.reducer,
            x,
            grid,
            self.num_prefix_tokens,
            checkpointing=self.with_cp and self.training,
            execution=self.execution,
            rope=rope,
        )
        first = self.depth - self.query_blocks
        stack.run(0, first - 1)
        stack.prepend(self.query.weight.expand(len(x), -1, -1))
        earlier: list[Tensor] = []
        for block, probability in zip(range(first, self.depth), self._probs, strict=True):
            visible = None
            if head is not None and (self.training or probability):
                earlier += head(*self._split(stack.map(with_prefix=True), grid))
                if probability:
                    visible = visible_positions(earlier[-1], grid, stack.tokens.prefix, probability)
            stack.run(block, block, visible)
        return [*self._split(stack.finish(with_prefix=True), grid), *earlier]

    def _split(self, dense: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the normalized queries (B, Q, C) and grid (B, C, H, W) of a map (B, N, C)."""
        dense = self.norm(dense)
        return dense[:, : self.num_queries], feature_map(dense[:, -grid[0] * grid[1] :], grid)


@torch.no_grad()
def visible_positions(mask_logits: Tensor, grid: tuple[int, int], prefix: int, probability: float = 1.0) -> Tensor:
    """Return how visible each position is to each query, (B, N, Q): where positive, the query may attend to it.

    The mask logits at the patches (bilinear, without antialiasing); infinite at prefix tokens, and everywhere for
    queries that keep their mask only with a ``probability`` and were not drawn.

    Args:
        mask_logits: (B, Q, h / stride, w / stride).
        grid: (H, W).
        prefix: number of positions before the grid.
    """
    logits = F.interpolate(mask_logits.float(), grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    if probability < 1:
        drawn = torch.rand(len(logits), 1, logits.shape[2], device=logits.device) < probability
        logits = logits.masked_fill(~drawn, torch.inf)
    return F.pad(logits, (0, 0, prefix, 0), value=torch.inf)


def predictions(encoder: EoMTEncoder, head: Head, image: Tensor) -> list[Prediction]:
    """Return what an encoder and a head predict on images (B, 3, h, w), the last block's prediction last."""
    # Without the head where it is not needed: a compiled or captured encoder takes images only.
    masked = encoder.training or any(encoder.mask_probs)
    queries, features, *earlier = encoder(image, head) if masked else encoder(image)
    return [*zip(earlier[::2], earlier[1::2], strict=True), head(queries, features)]


def on_black(image: Tensor, size: tuple[int, int], preprocessor: nn.Module) -> Tensor:
    """Pad normalized images (B, 3, h, w) at the bottom and right with black pixels to at least ``size`` (h, w)."""
    height, width = (max(side, least) for side, least in zip(image.shape[-2:], size, strict=True))
    if (height, width) == tuple(image.shape[-2:]):
        return image
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    black = 0 if mean is None else (-mean / std).to(image).view(1, 3, 1, 1)
    out = image.new_zeros(*image.shape[:2], height, width) + black
    out[..., : image.shape[-2], : image.shape[-1]] = image
    return out


def even_windows(length: int, size: int) -> list[int]:
    """Return the starts of as few windows of ``size`` as cover a ``length``, evenly overlapping."""
    number = -(-length // size)
    overlap = number * size - length
    return [0] if number <= 1 else [int(i * (size - overlap / (number - 1))) for i in range(number)]


def _timm_model(name: str, img_size: tuple[int, int], patch_size: int, **vit: Any) -> nn.Module:
    if not timm.is_model(name):
        raise SettingError(f"timm has no model {name!r}: timm.list_models('vit*dino*') lists those of EoMT's recipes")
    model = timm.create_model(name, img_size=img_size, patch_size=patch_size, num_classes=0, **vit)
    check_timm(model)
    return model


def _checked_size(img_size: Sequence[int] | int, patch_size: int) -> tuple[int, int]:
    sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(sides) != 2 or any(side < patch_size or side % patch_size for side in sides):
        raise SettingError(
            f"img_size is {img_size}: give a side or (height, width), multiples of the patch of {patch_size} pixels"
        )
    return sides[0], sides[1]


def _read_probs(encoder: EoMTEncoder, incompatible: Any) -> None:
    encoder._probs = tuple(encoder.attn_mask_probs.tolist())
