"""Readable forms of the rows of ``measure``: a table with notes, and a CSV file."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from ..files import replacing


def table(rows: Sequence[dict]) -> list[str]:
    """Return the lines of a table for the terminal."""
    heads = [name for name in ("ms_backbone", "ms_neck", "ms_heads") if name in rows[0]]
    lines = [
        [
            "model",
            "batch",
            "tokens",
            "kept",
            "ms",
            "",
            "speed-up",
            "",
            "GMACs ratio",
            *heads,
            "GMACs",
            "block GMACs",
            *(["peak MiB"] if "peak_mb" in rows[0] else []),
        ]
    ]
    for r in rows:
        low, high = r["ms_quartiles"]
        against = "dense" if "speedup_vs_dense" in r else "first"
        slow, fast = r[f"speedup_vs_{against}_quartiles"]
        lines.append(
            [
                r["model"],
                str(r["batch"]),
                f"{r['positions']:.0f}",
                f"{r['keep_ratio']:.0%}",
                f"{r['ms_median']:.1f}",
                f"[{low:.1f}, {high:.1f}]",
                f"{r[f'speedup_vs_{against}']:.2f}",
                f"[{slow:.2f}, {fast:.2f}]",
                f"{r['flops_ratio']:.3f}",
                *(f"{r[name]:.1f}" for name in heads),
                f"{r['gmacs']:.4g} +- {r['gmacs_std']:.2g}",
                f"{r['block_gmacs']:.4g}",
                *([f"{r['peak_mb']:.0f}"] if "peak_mb" in r else []),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if i else '<'}{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]


def notes(rows: Sequence[dict]) -> list[str]:
    """Return sentences about the table: the conditions, and how to read its columns."""
    first = rows[0]
    found = [
        f"{first['part']} on {first['device']}, {first['precision']}; 'speed-up' and 'GMACs ratio' compare with the "
        "last dense model above, or with the first model if there is none; 'kept' is the mean over the pruned blocks; "
        "GMACs are per image, of the forward, a multiply-add is 1 "
        f"(+- over {'batches' if first['images'] else 'the one batch'})"
    ]
    for name, kept, tokens in dict.fromkeys((r["model"], r["keep"], tuple(r["tokens_by_block"])) for r in rows):
        found.append(f"{name} keeps tokens {kept}, by block: {' '.join(f'{t:.0f}' for t in tokens)}")
    if first["repeats"] == 1:
        found.append("one repeat shows no spread: the [quartiles] are its own time")
    if first["execution"] == "capacity":
        found.append(
            "compiled and captured backbones have a fixed capacity; GMACs and tokens are those of exact execution"
        )
    if any(r["weights"] == "random" for r in rows):
        found.append("without a checkpoint the weights are random: only the speed is meaningful")
    if "detections" in first:
        found.append("detections per image: " + ", ".join(f"{r['detections']:.0f}" for r in rows))
    return found


def write_csv(path: str | Path, rows: Sequence[dict]) -> None:
    """Write one line per row; lists and dicts as JSON."""
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for r in rows for key in r)))
        writer.writeheader()
        writer.writerows({k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in r.items()} for r in rows)
