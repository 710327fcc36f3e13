"""APT: larger patches where the image is flat.

"Accelerating Vision Transformers with Adaptive Patch Sizes", Choudhury et al., 2025.

Shapes: T packed tokens, B images, N positions, H x W grid of the smallest patches, h x w pixels of one, R x S
grid of the whole patches of a larger scale, K of them that are taken, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import QKV
from ..components.patch_entropy import MAX_ENTROPY, patch_scales, to_grey
from ..components.per_image import change, decide
from ..components.token_score import SCORES, RankingReducer
from ..counts import Counts
from ..embedding import PatchEmbedding
from ..errors import SettingError
from ..positions import resize_positions
from ..reducer import METHODS, Decision, Reducer, build_reducer, register
from ..tokens import TokenSet

MOST_SCALES = 16


@register
class APT(Reducer):
    """Patch sizes chosen by the entropy of the grey values, before the first block.

    A patch of 2, 4, ... times the side becomes one token where its entropy is below the threshold of its size. Its
    token is the embedding of the patch, resized to the smallest, plus a position from the table resampled to the
    larger patches, plus a learned combination of the embeddings of its smallest patches, which is zero at the start of
    training. On the map it fills all positions that it covers. Each image keeps its own number of tokens.

    The token has the rotary position of its top left patch, as published for EVA-02.

    Args:
        embed_dim: C of the host.
        depth: number of blocks of the host.
        thresholds: in bits, 0 to 9; one for all larger sizes, or one for each, smallest first. At 0 no larger patch is
            taken.
        scales: number of patch sizes, the smallest included. Default one more than there are thresholds, 3 if there is
            only one number.
        mean: of the normalization of the host's images, in 0..255 as in ``data_preprocessor``, for the entropy of the
            picture as it was. Default ImageNet's.
        std: the same.
        then: ``dict(type=METHOD, ...)`` of a method that goes on with these tokens, one that learns nothing and
            remembers nothing from block to block, such as ToMe or EViT.

    Raises:
        SettingError: an argument is out of range.
    """

    reads_image = True
    fixed_shapes = False
    cost_param = ("thresholds", 0.0, MAX_ENTROPY)
    keep_all = {"thresholds": 0.0}

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        thresholds: Sequence[float] | float = (5.75, 4.0),
        scales: int | None = None,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        then: dict | Reducer | None = None,
    ) -> None:
        super().__init__(embed_dim, depth)
        self.thresholds = _thresholds(thresholds, scales)
        self.mean, self.std = tuple(mean), tuple(std)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise SettingError(f"mean = {mean} and std = {std}: give three numbers each, in 0..255, std above 0")
        # Named as in the released code.
        self.patch_attn = nn.Conv2d(embed_dim, embed_dim, 2, stride=2)
        self.zero_conv = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(self.zero_conv.weight)
        nn.init.zeros_(self.zero_conv.bias)
        self.then = build_reducer(then, embed_dim, depth)
        if self.then is not None:
            _check_follower(self.then)
            self.prop_attn, self.needs_class_token = self.then.prop_attn, self.then.needs_class_token

    @property
    def pruned_blocks(self) -> list[int]:
        return list(range(self.depth))

    def check_host(self, class_token: bool, windows: Sequence[int | None] = ()) -> None:
        if self.then is not None:
            self.then.check_host(class_token, windows)
        super().check_host(class_token, windows)

    def signature(self) -> tuple:
        return (*super().signature(), *(part.signature() for part in self.children() if isinstance(part, Reducer)))

    def start(self, tokens: TokenSet, score_fn: Callable | None = None) -> Any:
        return None if self.then is None else self.then.start(tokens)

    def embed(self, tokens: TokenSet, embedding: PatchEmbedding, state: Any) -> TokenSet:
        grid, image = embedding.grid, embedding.image
        if image.shape[1] != 3:
            raise SettingError(f"APT reads the grey values of RGB images, and these have {image.shape[1]} channels")
        patch = (image.shape[2] // grid[0], image.shape[3] // grid[1])
        with torch.no_grad():
            scales = patch_scales(to_grey(image, self.mean, self.std), patch, grid, self.thresholds)
            rows = torch.arange(grid[0], device=image.device)[:, None].expand_as(scales)
            columns = torch.arange(grid[1], device=image.device).expand_as(scales)
            top, left = (places >> scales << scales for places in (rows, columns))
            # The place in the sequence of the token that represents each position.
            targets = F.pad((top * grid[1] + left).flatten(1) + tokens.prefix, (tokens.prefix, 0))
            targets[:, : tokens.prefix] = torch.arange(tokens.prefix, device=image.device)
            here = torch.arange(tokens.positions, device=image.device)
            kept = targets == here
            counts = Counts.of(kept.sum(1).tolist())
        if counts.total == len(tokens.x) and not torch.is_grad_enabled():
            return tokens
        x = tokens.x
        for i in range(1, len(self.thresholds) + 1):
            taken = (scales == i) & (top == rows) & (left == columns)
            taken = taken[:, :: 2**i, :: 2**i][:, : grid[0] >> i, : grid[1] >> i]
            places = taken.nonzero()
            index = (places[:, 1] * grid[1] + places[:, 2] << i) + tokens.prefix + places[:, 0] * tokens.positions
            x = x.index_copy(0, index, self.larger_tokens(embedding, taken, i).to(x.dtype))
        starts = torch.arange(len(scales), device=image.device)[:, None] * tokens.positions
        every = torch.arange(len(x), device=image.device)
        # Not ``flatten().nonzero()``, which would wait for the device a second time.
        rows = torch.nonzero_static(kept.flatten(), size=counts.total).squeeze(1)
        return tokens.assign(rows, counts, x[rows], None, every, (targets + starts).flatten())

    def larger_tokens(self, embedding: PatchEmbedding, taken: Tensor, scale: int) -> Tensor:
        """Return the tokens (K, C) of the patches of a scale that are ``taken`` (B, R, S), in this order."""
        rows, columns, side = *taken.shape[1:], 2**scale
        high, wide = (s // n for s, n in zip(embedding.image.shape[2:], embedding.grid, strict=True))
        image = embedding.image[:, :, : rows * high * side, : columns * wide * side]
        if not image.numel():  # smaller than one patch of this scale
            patches, parts = (
                image.new_zeros(0, 3, high, wide),
                embedding.patches.new_zeros(0, self.embed_dim, side, side),
            )
        else:
            small = F.interpolate(image, (rows * high, columns * wide), mode="bilinear", align_corners=False)
            patches = small.unflatten(2, (rows, high)).unflatten(4, (columns, wide)).permute(0, 2, 4, 1, 3, 5)[taken]
            parts = embedding.patches.unflatten(1, embedding.grid)[:, : rows * side, : columns * side]
            parts = parts.unflatten(1, (rows, side)).unflatten(3, (columns, side)).permute(0, 1, 3, 5, 2, 4)[taken]
        tokens = embedding.embed(patches)
        if embedding.positions is not None and image.numel():
            table = embedding.positions.unflatten(1, embedding.grid)[:, : rows * side, : columns * side].flatten(1, 2)
            table = resize_positions(table, (rows * side, columns * side), (rows, columns), antialias=True)
            tokens = tokens + table.unflatten(1, (rows, columns)).expand(len(taken), -1, -1, -1)[taken]
        for _ in range(scale):
            parts = self.patch_attn(parts)
        return embedding.finish(tokens + self.zero_conv(parts.flatten(1)))

    def enter_block(self, block: int, tokens: TokenSet, state: Any) -> TokenSet:
        then = self.then
        return tokens if then is None else change(lambda part: then.enter_block(block, part, state), tokens)

    def before_block(self, block: int, tokens: TokenSet, state: Any) -> Decision | None:
        then = self.then
        return None if then is None else decide(lambda part: then.before_block(block, part, state), tokens)

    def after_attention(self, block: int, tokens: TokenSet, qkv: QKV, state: Any) -> TokenSet:
        then = self.then
        if then is None:
            return tokens
        return change(lambda part, own: then.after_attention(block, part, own, state), tokens, qkv)

    def after_block(self, block: int, tokens: TokenSet, state: Any) -> TokenSet:
        then = self.then
        return tokens if then is None else change(lambda part: then.after_block(block, part, state), tokens)


def _thresholds(thresholds: Sequence[float] | float, scales: int | None) -> tuple[float, ...]:
    if isinstance(thresholds, (int, float)):
        number = 3 if scales is None else scales
        found = [thresholds] * (number - 1) if number <= MOST_SCALES else []
    else:
        found = list(thresholds)
    wrong = [t for t in found if not isinstance(t, (int, float)) or not 0 <= t <= MAX_ENTROPY]
    if not found or wrong or scales not in (None, len(found) + 1):
        raise SettingError(
            f"thresholds = {thresholds} with scales = {scales}: give an entropy from 0 to {MAX_ENTROPY:g} bits, or one "
            f"for each of the sizes above the smallest, and 2 to {MOST_SCALES} scales"
        )
    return tuple(found)


def _can_follow(method: type[Reducer] | Reducer) -> bool:
    kind = method if isinstance(method, type) else type(method)
    learns = method.needs_training or method.needs_class_scores or method.has_aux_heads
    # The hooks run image by image, and a state that holds values of tokens is one of the whole batch.
    stateless = kind.start is Reducer.start
    stateless |= issubclass(kind, RankingReducer) and getattr(method, "score", None) == SCORES[0]
    return not (learns or method.needs_grid or method.reads_image) and stateless


def _check_follower(then: Reducer) -> None:
    if not _can_follow(then):
        others = ", ".join(sorted(name for name, method in METHODS.items() if _can_follow(method)))
        raise SettingError(
            f"{type(then).__name__} cannot go on with the tokens of APT: it learns, remembers what it decided, or "
            f"needs the whole grid; `then` takes {others}"
        )
