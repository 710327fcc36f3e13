"""Configs and tools of this project: where they are in a checkout and in an installed wheel, and configs by name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from .errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
# A wheel holds copies of the checkout's folders inside this package (setup.py).
ROOT = _PACKAGE / "_shipped" if (_PACKAGE / "_shipped").is_dir() else _PACKAGE.parent
CONFIGS = ROOT / "configs"


def config_names() -> list[str]:
    """Return the names of all configs of the project, as mask_rcnn/vit-adapter-t-3x."""
    files = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.py"))
    return sorted(path.with_suffix("").as_posix() for path in files if path.parts[0] != "_base_")


def find_config(name: str | os.PathLike) -> str:
    """Return the path of a config: ``name`` if that is a file, else the project's config of that name.

    Args:
        name: a path, or a name as ``config_names`` gives it, with or without "configs/" before and ".py" behind it, or
            its last part if no other config has that.

    Raises:
        ConfigError: there is no such file, and no such name or several.
    """
    name = str(name)
    if os.path.isfile(name):
        return name
    wanted = name.removeprefix("configs/").removesuffix(".py")
    names = config_names()
    found = [one for one in names if one == wanted] or [one for one in names if one.split("/")[-1] == wanted]
    if len(found) == 1:
        return str(CONFIGS / f"{found[0]}.py")
    if found:
        raise ConfigError(f"config {name} is one of {', '.join(found)}: give the whole name")
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "check the path; token-pruning configs lists the names"
    raise ConfigError(f"config {name} does not exist: {hint}")


def config_stem(config: str | os.PathLike) -> str:
    """Return the last part of a config's path or name, without .py; other dots stay: svit-adapter-t-0.5x-ftune."""
    name = os.path.basename(config)
    return os.path.splitext(name)[0] if name.endswith((".py", ".json", ".yaml", ".yml")) else name


def find_file(name: str) -> str:
    """Return ``name``, or the project's file of that name where there is none in the current folder."""
    own = ROOT / name
    return str(own) if not os.path.exists(name) and not os.path.isabs(name) and own.is_file() else name
