"""The rows of the reliability tools: what was tried, how often, and what was found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from mmcv_custom.results import row, write_json


def parser_of(description: str, kinds: Collection[str], each: str, seed: str) -> argparse.ArgumentParser:
    """Return the command line of a tool that tries cases of some kinds.

    Args:
        description: of the tool.
        kinds: that it can try.
        each: what a case of a kind is, in the plural.
        seed: what the seed decides.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=list(kinds), help="what to try (default: all)")
    parser.add_argument("--cases", type=int, default=20, metavar="N", help=f"{each} of each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help=f"decides the {seed} (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="also write the rows to this file")
    return parser


def faults_row(what: str, cases: int, found: Sequence[str], **more: object) -> dict:
    """Return a result row; ``found`` holds one sentence for each case that went wrong."""
    return row(kind="faults", what=what, cases=cases, faults=len(found), found=list(found), **more)


def print_rows(rows: Sequence[dict]) -> None:
    """Print rows of ``faults_row`` in words."""
    for one in rows:
        print(f"{one['what']}: {one['cases']} cases, {one['faults']} faults")
        for sentence in one["found"]:
            print(f"  {sentence}")


def write_rows(path: str | Path | None, rows: Sequence[dict]) -> None:
    """Put ``rows`` into the JSON file ``path``, if there is one, in the place of those with the same ``what``.

    The file holds rows alone, or is a page of docs/reliability with its ``rows``, title and columns.
    """
    if not path:
        return
    path = Path(path)
    before = json.loads(path.read_text()) if path.exists() else []
    new = {one["what"] for one in rows}
    others = before["rows"] if isinstance(before, dict) else before
    after = [one for one in others if one["what"] not in new] + list(rows)
    write_json(path, dict(before, rows=after) if isinstance(before, dict) else after)
