"""Let mmpretrain, and mmdet which imports it, load beside transformers 5.

mmpretrain 1.3 builds its multimodal models on parts of transformers that version 5 removed, and imports them wherever
any transformers is installed. Importing this module registers a finder that switches those models off in that case,
as mmpretrain itself does where there is no transformers; nothing of this project uses them.
"""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.machinery import PathFinder

NAME = "mmpretrain.utils.dependency"  # where mmpretrain keeps the switch


def transformers_is_too_new() -> bool:
    """Return whether the transformers that is installed lacks what mmpretrain's multimodal models are built on."""
    try:
        return int(metadata.version("transformers").split(".")[0]) >= 5
    except metadata.PackageNotFoundError:
        return False


class _Finder:
    """Finds mmpretrain's switch as Python does, and turns it off after it is loaded."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != NAME or not transformers_is_too_new():
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            load = spec.loader.exec_module

            def load_and_switch_off(module):
                load(module)
                module.WITH_MULTIMODAL = False

            spec.loader.exec_module = load_and_switch_off
        return spec


if _Finder not in sys.meta_path:
    sys.meta_path.insert(0, _Finder)
