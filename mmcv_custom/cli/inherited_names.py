"""Names that a config sets although only the files it inherits from read them.

A base may write ``data_root = "data/coco/"`` and build its data sets and evaluators with it. Those hold the value by
the time a derived config sets ``data_root`` again, so that alone changes nothing. ``data_root`` and ``metainfo`` are
therefore passed on to what the bases built; any other such name is refused.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.fileio import load

from ..data.checks.datasets import leaf_datasets
from ..errors import ConfigError
from .config_check import READ, UNSET, is_in_effect, names_used, places_of

PASSED_ON = ("data_root", "metainfo")
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")


@dataclass(frozen=True)
class _File:
    """A file of a config: the top-level names that it sets, and those that it uses."""

    path: str
    sets: frozenset[str]
    uses: frozenset[str]


def pass_on_names(cfg: Config) -> None:
    """Make ``data_root`` and ``metainfo`` count that a file of ``cfg`` sets after its bases have used them.

    Raises:
        ConfigError: they cannot be passed on, or a file sets another name that nothing reads any more.
    """
    files = list(_files(cfg.text or ""))
    for name in [name for name in cfg if name not in READ and not name.startswith("_")]:
        setters = [i for i, file in enumerate(files) if name in file.sets]
        last = setters[-1] if setters else 0
        # A file without a base shows all that it does with a name.
        if not last or "_base_" not in files[last].sets or _uses(files[last:], name):
            continue
        # What the bases built holds the value that was last read, not that of a file between, which nothing read.
        read = [i for i in setters[:-1] if _uses(files[i:last], name)]
        old = Config.fromfile(files[read[-1]].path, import_custom_modules=False).get(name, UNSET) if read else UNSET
        if name in PASSED_ON:
            _pass_on(cfg, name, old, files[last].path)
        elif old != cfg[name] and not is_in_effect(cfg, name):
            _refuse(cfg, name, old, files[last].path)


def _uses(files: list[_File], name: str) -> bool:
    return any(name in file.uses for file in files)


def pass_on_option(cfg: Config, before: Config, name: str) -> None:
    """Make a top-level name of ``PASSED_ON`` count that the command line has set; ``before`` is the config without it.

    Raises:
        ConfigError: it cannot be passed on.
    """
    _pass_on(cfg, name, before.get(name, UNSET), "--cfg-options")


def _pass_on(cfg: Config, name: str, old: object, where: str) -> None:
    datasets = _datasets(cfg)
    if not datasets or old == cfg[name]:
        return
    if old is UNSET:  # its bases have no such name: then all data sets must agree on the value that it replaces
        values = [dataset.get(name) for dataset in datasets]
        if any(value != values[0] for value in values) or (name == "data_root" and values[0] is None):
            _refuse(cfg, name, old, where)
        old = values[0]
    if name == "data_root":
        for key in (*LOADERS, *EVALUATORS):
            if cfg.get(key):
                cfg[key] = _moved(cfg[key], str(old), str(cfg[name]))
    else:
        for dataset in datasets:
            if dataset.get(name) == old:
                dataset[name] = cfg[name]
    if all(dataset.get(name) != cfg[name] for dataset in _datasets(cfg)):
        _refuse(cfg, name, old, where)


def _datasets(cfg: Config) -> list[dict]:
    return [leaf for loader in LOADERS for leaf in leaf_datasets((cfg.get(loader) or {}).get("dataset"))]


def _moved(node: object, old: str, new: str) -> object:
    """Return a copy of a part of a config in which every path at or below the folder ``old`` is in ``new``."""
    if isinstance(node, dict):
        return {key: _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    if node == old:
        return new
    folder = old.rstrip("/") + "/"
    if isinstance(node, str) and len(folder) > 1 and node.startswith(folder):
        return new.rstrip("/") + "/" + node.removeprefix(folder)
    return node


def _refuse(cfg: Config, name: str, old: object, where: str) -> None:
    places = places_of(cfg, name, old)
    instead = f"set {' and '.join(places[:3])} instead" if places else "set the value where it is used"
    raise ConfigError(f"{where} sets {name}, which changes nothing, because nothing reads it any more: {instead}")


def _files(text: str) -> Iterator[_File]:
    """Iterate over the files in ``Config.text``, bases first; there, a line with its path precedes each file."""
    starts = [
        match
        for match in re.finditer(r"^(.+\.(?:py|json|ya?ml))$", text, re.MULTILINE)
        if os.path.isabs(match[1]) and os.path.isfile(match[1])
    ]
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        own = text[start.end() : following.start() if following else None]
        yield _File(start[1], frozenset(_names_set(start[1], own)), frozenset(names_used(own)))


def _names_set(path: str, text: str) -> set[str]:
    if not path.endswith(".py"):
        return set(load(path))
    assigned = (node for node in ast.parse(text).body if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)))
    targets = (node.targets if isinstance(node, ast.Assign) else [node.target] for node in assigned)
    return {name.id for target in targets for name in target if isinstance(name, ast.Name)}
