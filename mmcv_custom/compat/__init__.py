"""Import hooks that let the OpenMMLab toolboxes load in more environments; import this before any toolbox.

Raises:
    ModuleNotFoundError: MMEngine or MMCV is not installed; the message names the extras that install it.
"""

try:
    import mmcv  # noqa: F401
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"mmcv_custom needs the package {error.name}, which is not installed: pip install 'token-pruning[detection]', "
        "[segmentation], [classification] or [all]",
        name=error.name,
    ) from None

from . import external_configs, mmcv_ext, mmpretrain_multimodal, quiet, thin_images

__all__ = ["external_configs", "mmcv_ext", "mmpretrain_multimodal", "quiet", "thin_images"]
