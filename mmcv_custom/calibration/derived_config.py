"""Derived configs: a file that inherits another config and sets one argument of its reducer."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from ..errors import ConfigError
from ..files import write_file

WIDTH = 120


def check_target(target: str, base: str, force: bool) -> None:
    """Raise ConfigError if ``target`` cannot become a config that inherits ``base``; called before any computation."""
    path = Path(target)
    if path.suffix != ".py":
        raise ConfigError(f"--out {target} is no name of a config: give one that ends in .py")
    if path.exists() and Path(base).exists() and path.samefile(base):
        raise ConfigError(f"--out {target} is the config itself: give another name")
    if path.exists() and not force:
        raise ConfigError(f"--out {target} exists already: give another name, or --force to overwrite it")


def write_derived_config(target: str, base: str, comments: list[str], name: str, value: float | list[float]) -> None:
    """Write the config ``target``.

    Args:
        comments: paragraphs at its top.
        base: config that it inherits, by a relative path.
        name, value: argument of the reducer.
    """
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
