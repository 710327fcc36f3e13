"""The plain ViT of segmentors: maps of one stride, the patch's, from any of its blocks, or the tokens themselves.

Shapes: B images, h x w pixels, C channels, p pixels a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmseg.registry import MODELS
from torch import Tensor, nn

from mmcv_custom.vit_host import HostViT
from token_pruning import TokenSet


class StageEnds(HostViT):
    """Base of the two: a plain ViT that is looked at after some of its blocks.

    Args:
        out_indices: these blocks, ascending, the last block among them; default the last alone.
        host: arguments of ``PlainViT`` (sizes, patch, class token, reducer, ...) and ``init_cfg``.

    Raises:
        ValueError: blocks that do not exist or are out of order, or blocks after the last map, which nothing reads.
    """

    def __init__(self, out_indices: Sequence[int] | None = None, **host) -> None:
        super().__init__(**host)
        self.out_indices = [self.depth - 1] if out_indices is None else list(out_indices)
        ascending = sorted({*self.out_indices} & {*range(self.depth)})
        if ascending != self.out_indices or self.depth - 1 not in ascending:
            raise ValueError(f"out_indices {self.out_indices}: list blocks from 0 to {self.depth - 1}, ascending, the "
                             "last one included (a smaller depth leaves blocks out)")
        self.strides = [self.patch_embed.patch_size[0]] * len(self.out_indices)


@MODELS.register_module()
class PlainViTBackbone(StageEnds):
    """Gives out maps.

    Args:
        final_norm: every map passes the final LayerNorm, whose name ``norm`` is timm's; False for the raw values.
        stage_ends: arguments of ``StageEnds``.
    """

    def __init__(self, out_indices: Sequence[int] | None = None, final_norm: bool = True, **host) -> None:
        super().__init__(out_indices, **host)
        self.norm = nn.LayerNorm(self.embed_dim, eps=self.blocks[0].norm1.eps) if final_norm else nn.Identity()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, h, w) of any size -> one map (B, C, ceil(h / p), ceil(w / p)) for each of ``out_indices``."""
        stack = self.start(self.pad(image))
        maps, first = [], 0
        for last in self.out_indices:
            stack.run(first, last)
            home = stack.map() if last < self.depth - 1 else stack.finish()
            maps.append(self.norm(home).transpose(1, 2).unflatten(2, stack.tokens.grid))
            first = last + 1
        return self.crop(maps, tuple(image.shape[-2:]))


@MODELS.register_module()
class StagedViT(StageEnds):
    """Gives out the token sets at its stage ends, for heads that look at tokens (``DToPSegmentor``); values are the
    residual stream as it is, no norm after it.

    Args:
        stage_ends: arguments of ``StageEnds``. Published DToP drops paths of the MLPs only; here, as in timm, of both
            branches.
    """

    def forward(self, image: Tensor, judge: Callable[[int, TokenSet], Tensor] | None = None) -> list[TokenSet]:
        """(B, 3, h, w) of any size -> the set after each of ``out_indices``, on a grid of ceil(h / p) x ceil(w / p).

        With a reducer whose tokens leave by what ``judge`` says, those that are left; with any other the whole map.
        """
        stack = self.start(self.pad(image), judge)
        sets, first = [], 0
        for last in self.out_indices:
            stack.run(first, last)
            if self.reducer is not None and self.reducer.judged:
                sets.append(stack.tokens)
            else:
                home = stack.map(with_prefix=True)
                sets.append(TokenSet.full(home, stack.tokens.grid, stack.tokens.prefix))
            first = last + 1
        if self.reducer is not None and self.reducer.training:  # also where all else is frozen
            stack.finish()  # which hands the reducer's losses on
        return sets
