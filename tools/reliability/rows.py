"""The rows of the reliability tools: what was tried, how often, and what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmcv_custom.results import row, write_json


def faults_row(what: str, cases: int, found: Sequence[str], **more: object) -> dict:
    """Return a result row; ``found`` holds one sentence for each case that went wrong."""
    return row(kind="faults", what=what, cases=cases, faults=len(found), found=list(found), **more)


def write_rows(path: str | Path | None, rows: Sequence[dict]) -> None:
    """Print ``rows``, and put them into the JSON file ``path`` in the place of those with the same ``what``."""
    for one in rows:
        print(f"{one['what']}: {one['cases']} cases, {one['faults']} faults")
        for sentence in one["found"]:
            print(f"  {sentence}")
    if path:
        path = Path(path)
        before = json.loads(path.read_text()) if path.exists() else []
        new = {one["what"] for one in rows}
        write_json(path, [one for one in before if one["what"] not in new] + list(rows))
