"""Import hooks that let the OpenMMLab toolboxes load in more environments; import this before any toolbox."""

from . import mmcv_ext, mmpretrain_multimodal, quiet

__all__ = ["mmcv_ext", "mmpretrain_multimodal", "quiet"]
