"""Write a leaf config: a file that inherits another and sets one argument of its reducer."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from ..errors import ConfigError
from ..files import write_file

WIDTH = 120


def check_leaf(target: str, base: str, force: bool) -> None:
    """Raise ConfigError when ``target`` cannot become a config that inherits ``base``; before anything is computed."""
    path = Path(target)
    if path.suffix != ".py":
        raise ConfigError(f"--out {target}: a config's name ends in .py")
    if path.exists() and Path(base).exists() and path.samefile(base):
        raise ConfigError(f"--out {target} is the config itself: give another name")
    if path.exists() and not force:
        raise ConfigError(f"--out {target} exists already: give another name, or --force to write over it")


def write_leaf(target: str, base: str, comments: list[str], name: str, value: float | list[float]) -> None:
    """Write the config ``target``: ``comments``, ``base`` by its relative path, and the reducer's argument ``name``."""
    path = Path(target)
    relative = Path(os.path.relpath(Path(base).resolve(), path.parent.resolve())).as_posix()
    relative = relative if relative.startswith(".") else f"./{relative}"
    lines = [
        line
        for comment in comments
        for line in textwrap.wrap(
            comment, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
        )
    ]
    lines += [f"_base_ = {relative!r}", "", *_setting(name, value)]
    write_file(path, "\n".join(lines) + "\n")


def _setting(name: str, value: float | list[float]) -> list[str]:
    line = f"model = dict(backbone=dict(reducer=dict({name}={value!r})))"
    if len(line) <= WIDTH:
        return [line]
    entries = textwrap.wrap(
        ", ".join(map(repr, value)) + "])))", WIDTH, initial_indent=" " * 16, subsequent_indent=" " * 16
    )
    return ["model = dict(", "    backbone=dict(", "        reducer=dict(", f"            {name}=[", *entries]
