"""Batching of images, with a clear error if their sizes differ.

Shapes: images (3, h, w).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.dataset import default_collate as stack
from mmengine.registry import FUNCTIONS

from ..errors import DataError


def check_sizes(sizes: Mapping[tuple[int, int], str], where: str) -> None:
    """Check that the images of a batch can be stacked.

    Args:
        sizes: (h, w) after all transforms -> file of such an image.
        where: what batches them, for the message.

    Raises:
        DataError: there is more than one size.
    """
    if len(sizes) > 1:
        (one, path), (other, its_path) = sorted(sizes.items())[:: len(sizes) - 1]
        raise DataError(
            f"{where} gives {path} {one[0]} x {one[1]} pixels and {its_path} {other[0]} x {other[1]} (height x width), "
            "which do not fit into one batch: crop or resize the images to one size (RandomCrop with "
            "pad_if_needed=True, Resize with two numbers), or set batch_size=1"
        )


@FUNCTIONS.register_module(force=True)
def default_collate(data_batch: Sequence) -> object:
    """Stack samples as MMEngine does.

    Raises:
        DataError: their images have different sizes.
    """
    if all(isinstance(sample, dict) and hasattr(sample.get("inputs"), "shape") for sample in data_batch):
        check_sizes(sizes_of(data_batch), "the pipeline")
    return stack(data_batch)


def sizes_of(samples: Sequence[dict]) -> dict[tuple[int, int], str]:
    """Return (h, w) -> file of one image of that size, for packed ``samples``."""
    return {tuple(s["inputs"].shape[-2:]): getattr(s.get("data_samples"), "img_path", "an image") for s in samples}
