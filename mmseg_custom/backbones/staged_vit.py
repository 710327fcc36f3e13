"""The plain ViT of DToP's segmentors: its tokens after some of its blocks.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable

from mmseg.registry import MODELS
from torch import Tensor

from mmcv_custom.models.multi_stage_vit import StageEnds
from token_pruning import TokenSet


@MODELS.register_module()
class StagedViT(StageEnds):
    """Gives out the token sets at its stage ends, for heads that look at tokens (``DToPSegmentor``); values are the
    residual stream as it is, no norm after it.

    Args:
        host: arguments of ``StageEnds``. Published DToP drops paths of the MLPs only; here, as in timm, of both
            branches.
    """

    def forward(self, image: Tensor, score_fn: Callable[[int, TokenSet], Tensor] | None = None) -> list[TokenSet]:
        """(B, 3, h, w) of any size -> the set after each of ``out_indices``, on a grid of ceil(h / p) x ceil(w / p).

        With a reducer whose tokens leave by what ``score_fn`` says, those that are left; with any other the whole map.
        """
        stack = self.start(self.pad(image), score_fn)
        sets, first = [], 0
        for last in self.out_indices:
            stack.run(first, last)
            if self.reducer is not None and self.reducer.needs_class_scores:
                sets.append(stack.tokens)
            else:
                dense_map = stack.map(with_prefix=True)
                sets.append(TokenSet.full(dense_map, stack.tokens.grid, stack.tokens.prefix))
            first = last + 1
        if self.reducer is not None and self.reducer.training:  # also where all else is frozen
            stack.finish()  # which hands the reducer's losses on
        return sets
