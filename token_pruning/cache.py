"""Tensors that are made of weights, kept as long as these stay what they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor


class WeightCache:
    """Of one module in evaluation. Its owner clears it where the mode changes: weights that are swapped by ``.data``,
    as an EMA's are, do not tell. At most ``limit`` tensors are kept."""

    def __init__(self, limit: int = 16) -> None:
        self._kept: dict[tuple, Tensor] = {}
        self._limit = limit

    def clear(self) -> None:
        self._kept.clear()

    def get(self, key: Hashable, weights: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` makes of ``weights``; made anew where gradients need it or a graph must own what it reads."""
        if (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or any(w.is_inference() for w in weights)
            or (weights[0].is_cuda and torch.cuda.is_current_stream_capturing())
        ):
            return make()
        key = (key, *((w.device, w.dtype, w.data_ptr(), w._version) for w in weights))
        if key not in self._kept:
            while len(self._kept) >= self._limit:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = make()
        return self._kept[key]
