"""Bases of the toolboxes (``mmdet::_base_/...``), found without reading the lists of all their models.

MMEngine parses a hundred YAML files for each such base, half a second, before it looks where bases are: none of those
files lists one. Importing this module makes it look there at once, and find ``mmseg::`` bases, which it expects in a
distribution of another name.
"""

from __future__ import annotations

from mmengine.config import config
from mmengine.config.utils import MODULE2PACKAGE

_listed = config._get_external_cfg_path


def listed_config(package_path: str, name: str) -> str:
    """Return the path of a config that a toolbox lists.

    Raises:
        ValueError: it lists none of this name, as for every base.
    """
    if name.startswith("_base_/"):
        raise ValueError(f"{name} is a base")
    return _listed(package_path, name)


config._get_external_cfg_path = listed_config
MODULE2PACKAGE["mmseg"] = "mmseg"
