"""The reference from docstrings: what `make docs`, which no test runs, fails on."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs/api").glob("*.md"))
SHOWN = [name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)]


def load(name):
    """Return the module, class or function of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, own = name.rpartition(".")
        return getattr(load(parent), own)


def documented(thing):
    """Yield (name, object) of a class or function and of what is public in it; of a module, of its own."""
    names = getattr(thing, "__all__", None) or vars(thing) if inspect.ismodule(thing) else vars(thing)
    inner = [] if inspect.isfunction(thing) else [vars(thing)[n] for n in names if not n.startswith("_")]
    if not inspect.ismodule(thing):
        yield thing.__qualname__, thing
    for member in inner:
        member = getattr(member, "__func__", member)  # of a static method or a class method
        own = not inspect.ismodule(thing) or getattr(member, "__module__", "").startswith(thing.__name__)
        if own and (inspect.isfunction(member) or inspect.isclass(member)):
            yield from documented(member)


def wrong_arguments(thing):
    """Return the entries of a docstring's "Args:" that are no parameter; griffe warns of each, which ends the build."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", inspect.getdoc(thing) + "\n", re.MULTILINE)
    entries = re.findall(r"^    (\S[^:]*):", section[1], re.MULTILINE) if section else []
    return [entry for entry in entries if entry.lstrip("*") not in inspect.signature(thing).parameters]


@pytest.mark.parametrize("name", SHOWN)
def test_arguments_of_docstrings_are_parameters(name):
    things = [(inner, thing) for inner, thing in documented(load(name)) if thing.__doc__]
    assert {inner: wrong for inner, thing in things if (wrong := wrong_arguments(thing))} == {}


def test_two_parameters_in_one_entry_are_found():
    def forward(x, y):
        """Compute.

        Args:
            x, y: numbers.
            z: unknown,
                and more: text.
        """

    assert wrong_arguments(forward) == ["x, y", "z"]
