"""How far an exported file is from the model in PyTorch.

Shapes: B images, M objects of an image.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Objects of two runs are one object if label, box and score agree so far.
PIXELS, SCORE = 1.0, 0.01
# The largest difference of a file that passes, by what is compared.
TOLERANCES = {"fp32": dict(values=1e-3, labels=2e-3, objects=0.02), "fp16": dict(values=0.03, labels=0.02, objects=0.1)}


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, tuple[str, float]]:
    """Return output -> what is compared and how far it is off.

    "values" are compared by the largest absolute difference as a fraction of the largest value, "labels" (whole numbers
    and masks) by the fraction of places that differ, and the "objects" of a detector by the fraction of them that the
    other side does not find.
    """
    if "boxes" in expected:
        return {"objects": ("objects", _unmatched(expected, found))}
    return {name: _difference(expected[name], found[name]) for name in expected}


def too_far(found: Mapping[str, tuple[str, float]], precision: str, tolerance: float | None) -> str | None:
    """Return the output that is off by more than it may be, None if there is none.

    int8 has no tolerance of its own: what quantisation costs is measured on a data set.
    """
    for name, (kind, value) in found.items():
        most = tolerance if tolerance is not None else TOLERANCES.get(precision, {}).get(kind, float("inf"))
        if not value <= most:  # not a number is too far, too
            return name
    return None


def _difference(expected: Tensor, found: Tensor) -> tuple[str, float]:
    if expected.shape != found.shape:
        return "values", float("inf")
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
