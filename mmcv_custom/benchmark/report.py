"""Rows of ``measure`` for people: a table, what it does not say, and a CSV file."""

import csv
import json
from pathlib import Path


def table(rows):
    """Lines for the terminal."""
    heads = [name for name in ("ms_backbone", "ms_neck", "ms_heads") if name in rows[0]]
    lines = [
        [
            "model",
            "batch",
            "tokens",
            "kept",
            "ms",
            "",
            "times faster",
            "",
            "FLOP ratio",
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


def notes(rows):
    """What the table alone does not say."""
    first = rows[0]
    found = [
        f"{first['part']} on {first['device']}, {first['precision']}; 'times faster' and the FLOP ratio compare "
        "with the last dense model up to that line, without one with the first; 'kept' is the mean over the "
        "pruned blocks, FLOPs are per image and of the forward "
        f"(+- over {'batches' if first['images'] else 'the one batch'})"
    ]
    for name, kept, tokens in dict.fromkeys((r["model"], r["keep"], tuple(r["tokens_by_block"])) for r in rows):
        found.append(f"{name} keeps tokens {kept}, by block: {' '.join(f'{t:.0f}' for t in tokens)}")
    if first["execution"] == "capacity":
        found.append("compiled and graphed backbones have a fixed capacity; FLOPs and tokens are the exact execution's")
    if any(r["weights"] == "random" for r in rows):
        found.append("without a checkpoint the weights are random: this measures speed only")
    if "detections" in first:
        found.append("detections per image: " + ", ".join(f"{r['detections']:.0f}" for r in rows))
    return found


def write_csv(path, rows):
    """One line per row; what is nested, as JSON."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for r in rows for key in r)))
        writer.writeheader()
        writer.writerows({k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in r.items()} for r in rows)
