"""Progress of long measurements: a bar on a terminal, else one line per model; both on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Sequence[Item], words: str) -> tqdm:
    """Return an iterator over ``items`` that shows a bar on a terminal while it runs, and nothing elsewhere."""
    return tqdm(items, words, disable=None, leave=False, dynamic_ncols=True)


def by_name(items: Sequence[Item], names: Sequence[str], words: str) -> Iterator[Item]:
    """Iterate over ``items``; the bar shows their names, and without a terminal each has a line "preparing x (1/4)"."""
    shown = bar(items, words)
    for number, (item, name) in enumerate(zip(shown, names, strict=True), 1):
        if shown.disable:
            print(f"{words} {name} ({number}/{len(items)})", file=sys.stderr, flush=True)
        else:
            shown.set_description(f"{words} {name}")
        yield item
