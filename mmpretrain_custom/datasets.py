"""Class folders with images of every suffix that the loader reads."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.datasets import CustomDataset as _CustomDataset
from mmpretrain.registry import DATASETS

from mmcv_custom.data.image_files import SUFFIXES


@DATASETS.register_module(force=True)
class CustomDataset(_CustomDataset):
    """mmpretrain's data set, which leaves out .webp, .gif, .jfif and others by default, with all suffixes."""

    def __init__(self, *args, extensions: Sequence[str] = SUFFIXES, **options) -> None:
        super().__init__(*args, extensions=extensions, **options)
