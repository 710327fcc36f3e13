"""Class folders with images of every suffix that the loader reads, and that loader, in mmpretrain."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.datasets import CustomDataset as _CustomDataset
from mmpretrain.registry import DATASETS, TRANSFORMS

from mmcv_custom import LoadImageFromFile
from mmcv_custom.data.image_files import SUFFIXES

# mmpretrain has MMCV's own loader in a registry of its own, where it would be found first.
TRANSFORMS.register_module(name="LoadImageFromFile", module=LoadImageFromFile, force=True)


@DATASETS.register_module(force=True)
class CustomDataset(_CustomDataset):
    """mmpretrain's data set, which leaves out .webp, .gif, .jfif and others by default, with all suffixes."""

    def __init__(self, *args, extensions: Sequence[str] = SUFFIXES, **options) -> None:
        super().__init__(*args, extensions=extensions, **options)
