"""Import hook that lets mmpretrain, and mmdet, which imports it, load beside transformers 5.

mmpretrain 1.3 builds its multimodal models on parts of transformers that version 5 removed, and imports them whenever
any transformers is installed. Importing this module adds a finder to ``sys.meta_path`` that switches those models off
in that case, as mmpretrain itself does without transformers. This project does not use them.
"""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.machinery import PathFinder

NAME = "mmpretrain.utils.dependency"  # defines WITH_MULTIMODAL


def transformers_is_too_new() -> bool:
    """Return whether the installed transformers is too new for mmpretrain's multimodal models."""
    try:
        return int(metadata.version("transformers").split(".")[0]) >= 5
    except metadata.PackageNotFoundError:
        return False


class _Finder:
    """Finder of the module with mmpretrain's switch, which is turned off after loading."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != NAME or not transformers_is_too_new():
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            exec_module = spec.loader.exec_module

            def exec_and_switch_off(module):
                exec_module(module)
                module.WITH_MULTIMODAL = False

            spec.loader.exec_module = exec_and_switch_off
        return spec


if _Finder not in sys.meta_path:
    sys.meta_path.insert(0, _Finder)
