"""The plain ViT of DToP's segmentors, which outputs its tokens after several of its blocks.

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
    """A plain ViT that returns the token sets at its stage ends, for heads on token sets (``DToPSegmentor``).

    The values are those of the residual stream, without a final norm.

    Args:
        host: arguments of ``StageEnds``. Published DToP applies drop path to the MLPs only; here, as in timm, it
            applies to both branches.
    """

    def forward(self, image: Tensor, score_fn: Callable[[int, TokenSet], Tensor] | None = None) -> list[TokenSet]:
        """Return the token set after each of ``out_indices`` for images (B, 3, h, w) of any size.

        The grid is ceil(h / p) x ceil(w / p) for patches of p pixels. With a reducer that needs class scores, supplied
        by ``score_fn``, a set holds the kept tokens; otherwise it holds all tokens of the restored map.
        """
        stack = self.start(self.pad(image), score_fn)
        sets = []
        for last in self.out_indices:
            stack.run_to(last)
            if self.reducer is not None and self.reducer.needs_class_scores:
                sets.append(stack.tokens)
            else:
                dense = stack.map(with_prefix=True)
                sets.append(TokenSet.full(dense, stack.tokens.grid, stack.tokens.prefix))
        if self.reducer is not None and self.reducer.training:  # also in a frozen backbone
            stack.finish()  # passes the reducer's losses on
        return sets
