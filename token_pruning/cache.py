"""Caches of tensors computed from weights, until the weights change, and from sizes, for the latest sizes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import TypeVar
from weakref import ref

import torch
from torch import Tensor

T = TypeVar("T")


def cached_by_size(limit: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorate a function of sizes and a device: the results of the ``limit`` last used arguments are kept.

    Unlike those of ``functools.lru_cache``, results that are read while a CUDA graph is captured stay for good, because
    the graph reads their memory as long as it exists. ``limit`` must be more than one forward needs. Arguments are
    hashable and positional. A compiled graph computes the result itself.
    """

    def decorate(make: Callable[..., T]) -> Callable[..., T]:
        kept: OrderedDict[tuple, T] = OrderedDict()  # the last used one last
        captured: dict[tuple, T] = {}

        @wraps(make)
        def cached(*sizes: Hashable) -> T:
            if torch.compiler.is_compiling():
                return make(*sizes)
            if sizes in captured:
                return captured[sizes]
            found = kept.pop(sizes, None)
            if found is None:
                found = make(*sizes)
            if _is_capturing(sizes):
                captured[sizes] = found
                return found
            kept[sizes] = found
            while len(kept) > limit:
                kept.pop(next(iter(kept)), None)  # the replicas of DataParallel share the cache
            return found

        return cached

    return decorate


def _is_capturing(sizes: tuple[Hashable, ...]) -> bool:
    on_cuda = any(isinstance(size, torch.device) and size.type == "cuda" for size in sizes)
    return on_cuda and torch.cuda.is_current_stream_capturing()


class WeightCache:
    """Cache of tensors that one module computes from its weights in evaluation.

    Weights are known by identity: neither the weights of a replica nor new ones at the address of old ones are confused
    with them. A copy of the cache is empty. The module must call ``clear`` when its mode changes: weights that are
    swapped through ``.data``, as an EMA does, keep their version number. At most ``limit`` tensors are kept, the latest
    ones.
    """

    def __init__(self, limit: int = 16) -> None:
        self._kept: dict[tuple, tuple[list[ref[Tensor]], Tensor]] = {}
        self._limit = limit

    def __reduce__(self) -> tuple[type[WeightCache], tuple[int]]:
        return WeightCache, (self._limit,)

    def clear(self) -> None:
        """Forget all tensors."""
        self._kept.clear()

    def get(self, key: Hashable, weights: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor that ``make`` computes from ``weights``.

        It is computed anew where gradients are enabled and where a compiled or captured graph must own what it reads.
        """
        if (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or any(w.is_inference() for w in weights)
            or (weights[0].is_cuda and torch.cuda.is_current_stream_capturing())
        ):
            return make()
        entry = (key, *((w.device, w.dtype, w.data_ptr(), w._version) for w in weights))
        weakly, found = self._kept.get(entry, ((), None))
        if found is None or any(reference() is not w for reference, w in zip(weakly, weights, strict=True)):
            found = make()
            while len(self._kept) >= self._limit:
                self._kept.pop(next(iter(self._kept)), None)  # the replicas of DataParallel share the cache
            self._kept[entry] = ([ref(w) for w in weights], found)
        return found
