"""The forms in which layers of Hugging Face ``transformers`` take and return the tokens.

Shapes: B images, N positions, C channels, H x W grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..tokens import feature_map


@dataclass(frozen=True)
class Layout:
    """One form.

    Attributes:
        order: of the axes.
        returns_tuple: whether a layer returns (tokens,) instead of the tokens.
    """

    order: str
    returns_tuple: bool = False

    def sequence(self, x: Tensor) -> Tensor:
        """Return what a layer takes as (B, N, C)."""
        if self.order == "BNC":
            return x
        return x.flatten(1, 2) if self.order == "BHWC" else x.flatten(2).mT

    def like_layer(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return tokens (B, N, C) in the form of a layer."""
        if self.order == "BNC":
            return x
        return x.unflatten(1, grid) if self.order == "BHWC" else feature_map(x, grid)

    def output(self, x: Tensor) -> Any:
        """Return tokens in a layer's form as the layer returns them."""
        return (x,) if self.returns_tuple else x


SEQUENCE = Layout("BNC")
ROWS = Layout("BHWC")  # SAM
MAP = Layout("BCHW", returns_tuple=True)  # ViTDet
