"""Import hooks that let the OpenMMLab toolboxes load in more environments; import this before any toolbox."""

from . import external_configs, mmcv_ext, mmpretrain_multimodal, quiet

__all__ = ["external_configs", "mmcv_ext", "mmpretrain_multimodal", "quiet"]
