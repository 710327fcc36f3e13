"""How far an exported file is from the model in PyTorch.

Shapes: B images, M objects of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .metadata import TOKENS

# Objects of two runs are one object if label, box and score agree so far.
PIXELS, SCORE = 1.0, 0.01
# A change of the input, as a fraction of its largest value, and of every product in the model, as a fraction of each
# value, that is about what two runtimes round differently. Cosines near one feel rounding, and no change of the input.
# Which of two nearly equal tokens comes first is chance, so several draws are looked at.
NOISE, DRAWS = 1e-6, 4
_ATEN = torch.ops.aten
PRODUCTS = (
    _ATEN.mm,
    _ATEN.addmm,
    _ATEN.bmm,
    _ATEN.baddbmm,
    _ATEN.convolution,
    _ATEN._scaled_dot_product_flash_attention_for_cpu,
)
# Where NOISE moves the model itself by more than the tolerance, a file may be off by SLACK times that. A model of which
# it moves more than CHAOS cannot be compared at all.
SLACK, CHAOS = 1.5, 0.8
# The largest difference of a file that passes, by what is compared.
TOLERANCES = {"fp32": dict(values=1e-3, labels=2e-3, objects=0.02), "fp16": dict(values=0.03, labels=0.02, objects=0.1)}

Differences = dict[str, tuple[str, float]]
Function = Callable[[Tensor], Mapping[str, Tensor]]


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Differences:
    """Return output -> what is compared and how far it is off.

    "values" are compared by the largest absolute difference as a fraction of the largest value, "labels" (whole numbers
    and masks) by the fraction of places that differ, and the "objects" of a detector by the fraction of them that the
    other side does not find.
    """
    objects = {"objects": ("objects", _unmatched(expected, found))} if "boxes" in expected else {}
    others = [name for name in expected if not objects or name == TOKENS]
    return objects | {name: _difference(expected[name], found[name]) for name in others}


def largest_differences(expected: Function, found: Function, batches: Iterable[Tensor]) -> Differences:
    """Return the largest ``differences`` of two functions of images (B, 3, h, w) over all batches."""
    return _largest((expected(images), found(images)) for images in batches)


def own_differences(graph: nn.Module, batches: Iterable[Tensor]) -> Differences:
    """Return the largest ``differences`` of ``graph`` from itself with ``NOISE``, over all batches and draws."""
    plain, noisy = outputs_of(graph), [outputs_of(graph, NOISE, draw) for draw in range(DRAWS)]

    def pairs() -> Iterator[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]:
        for images in batches:
            expected = plain(images)
            yield from ((expected, moved(images)) for moved in noisy)

    return _largest(pairs())


def _largest(pairs: Iterable[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]) -> Differences:
    largest: Differences = {}
    for expected, found in pairs:
        for name, (kind, value) in differences(expected, found).items():
            # Unlike max, this keeps what is not a number.
            largest[name] = (kind, float(np.maximum(value, largest.get(name, (kind, 0.0))[1])))
    return largest


def outputs_of(graph: nn.Module, noise: float = 0.0, draw: int = 0) -> Function:
    """Return the function from images to the outputs of ``graph`` by name.

    Args:
        graph: of ``graphs``.
        noise: normal noise on the normalised images, as a fraction of their largest value, and on the results of
            ``PRODUCTS``, as a fraction of each.
        draw: number of the noise, which is the same at every call.
    """

    def noisy(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        (images,) = args
        random = torch.Generator().manual_seed(draw)
        return images + noise * images.abs().max() * torch.randn(images.shape, generator=random)

    def outputs(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            if not noise:
                return dict(zip(graph.names, graph(images), strict=True))
            hook = getattr(graph, "inner", graph).register_forward_pre_hook(noisy)
            try:
                with _NoisyProducts(noise, draw):
                    return dict(zip(graph.names, graph(images), strict=True))
            finally:
                hook.remove()

    return outputs


class _NoisyProducts(TorchDispatchMode):
    def __init__(self, noise: float, draw: int) -> None:
        super().__init__()
        self.noise, self.random = noise, torch.Generator().manual_seed(draw + 1)

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket not in PRODUCTS:
            return result
        first, *rest = result if isinstance(result, tuple) else (result,)
        first = first * (1 + self.noise * torch.randn(first.shape, generator=self.random, dtype=first.dtype))
        return (first, *rest) if rest else first


def too_far(
    found: Differences, precision: str, tolerance: float | None = None, own: Differences | None = None
) -> str | None:
    """Return the output that is off by more than it may be, None if there is none.

    int8 has no tolerance of its own: what quantisation costs is measured on a data set.

    Args:
        found: of the file.
        precision: of the file.
        tolerance: largest difference; None: ``TOLERANCES``.
        own: how far the model itself moves under ``NOISE``.
    """
    for name, (kind, value) in found.items():
        most = tolerance if tolerance is not None else TOLERANCES.get(precision, {}).get(kind, float("inf"))
        moves = own[name][1] if own else 0.0
        if moves <= CHAOS:
            most = max(most, min(SLACK * moves, (1 + moves) / 2))  # 1 is another model's
        if not value <= most:  # not a number is too far, too
            return name
    return None


def _difference(expected: Tensor, found: Tensor) -> tuple[str, float]:
    if expected.shape != found.shape:
        return "values", math.nan  # more than any tolerance
    if not expected.is_floating_point():
        return "labels", (expected != found.to(expected.dtype)).float().mean().item()
    largest = expected.abs().max().clamp(min=1e-12)
    return "values", ((found.float() - expected.float()).abs().max() / largest).item()


def _unmatched(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Return the fraction of objects, of both sides, that the other side does not have; masks included."""
    missing, number = 0, 0
    for i in range(expected["scores"].shape[0]):
        left, right = ({name: values[i] for name, values in side.items()} for side in (expected, found))
        alike = (left["labels"][:, None] == right["labels"]) & (left["labels"] >= 0)[:, None]
        alike &= (left["scores"][:, None] - right["scores"]).abs() <= SCORE
        alike &= (left["boxes"][:, None] - right["boxes"]).abs().amax(-1) <= PIXELS
        if "masks" in left:
            masks = (left["masks"].float().flatten(1), right["masks"].float().flatten(1))
            alike &= torch.cdist(*masks, p=1) <= PIXELS / 20 * masks[0].shape[1]
        for side, dim in ((left, 1), (right, 0)):
            there = side["labels"] >= 0
            number += int(there.sum())
            missing += int((there & ~alike.any(dim)).sum())
    return missing / max(number, 1)
