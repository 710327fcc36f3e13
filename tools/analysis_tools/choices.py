"""Tables that help to choose a method, from the rows of results and benchmarks (docs/choose_a_method.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gains import comparable, gains, method_of

# Methods as they are; a table of one host also holds variants of them.
PLAIN = [
    *("ToMe", "MPM", "PiToMe", "ALGM", "CubistMerge", "APT", "PPT", "EViT", "EvoViT", "ATS", "SViT"),
    *("DynamicViT", "Cropr", "DToP", "Random"),
]
SHELF = 2 / 3  # of the dense network's multiply-adds: where methods without training are compared
CASES = ["your case", "host", "machine", "fastest", "times faster", "score", "next", "loses or gains nothing"]


def case_rows(results: Iterable[dict]) -> list[list[object]]:
    """Return a row for each network with scores and times: what is fastest, what comes next, what does not pay."""
    rows = []
    for result in results:
        timed = comparable(result)
        if not timed:
            continue
        found = gains(result)
        useful = [method_of(gain.row) for gain in found]
        others = dict.fromkeys(method_of(row) for row in timed[1:] if not _dense(row))
        best = found[0].cells if found else None
        rows.append(
            [
                result["summary"]["task"],
                result["summary"]["host"],
                _machine(timed[-1]),
                best[2] if best else "the dense model",
                best[6] if best else None,
                f"{best[3]} {best[4]:.3g} to {best[5]:.3g}" if best else None,
                ", ".join(f"{gain.cells[2]} ({gain.cells[6]:.2f})" for gain in found[1:]),
                ", ".join(name for name in others if name not in useful),
            ]
        )
    return rows


def score_table(results: Iterable[dict]) -> tuple[list[str], list[list[object]]]:
    """Return headings and rows: what each method changes a score by on each network, at what share of the cost.

    The dense model was trained as much further, so the difference is the method's.
    """
    columns, methods = [], {}
    for result in results:
        rows = result["rows"]
        if "fine_tuned" not in rows[0]:
            continue
        dense = rows[0]
        scale = 1 if dense["fine_tuned"] > 1 else 100  # COCO's scores are shares
        column = f"{result['title']} ({dense['metric'].split('/')[-1]}, {dense['seeds']} seed(s))"
        columns.append(column)
        for row in rows[1:]:
            if row["model"] in PLAIN:
                shelf, tuned = (
                    "-" if row.get(key) is None else f"{scale * (row[key] - dense[key]):+.1f}"
                    for key in ("off_the_shelf", "fine_tuned")
                )
                share = row["gmacs_ratio"] / dense["gmacs_ratio"]
                methods.setdefault(row["model"], {})[column] = f"{shelf}, {tuned} at {share:.2f}"
    names = [name for name in PLAIN if name in methods]
    return ["method", *columns], [[name, *(methods[name].get(column) for column in columns)] for name in names]


def shelf_table(results: Iterable[dict]) -> tuple[list[str], list[list[object]]]:
    """Return headings and rows: of each method without training the setting that is nearest to ``SHELF``.

    A cell holds the change of the score in points, the share of the multiply-adds, the speed-up if it was measured, and
    the setting.
    """
    columns, methods = [], {}
    for result in results:
        dense, *rows = result["rows"]
        if "summary" not in result or "tokens_computed" not in dense:
            continue
        summary, field = result["summary"], result["summary"]["score"]
        scale = 1 if dense[field] > 1 else 100  # AUC and COCO's scores are shares
        column = f"{summary['host']}: {summary['heading']}"
        columns.append(column)
        for name in dict.fromkeys(row["method"] for row in rows):
            row = min((r for r in rows if r["method"] == name), key=lambda r: abs(r["gmacs_ratio"] - SHELF))
            speed = f", {row['speedup_vs_dense']:.2f} times" if row.get("speedup_vs_dense") else ""
            cell = f"{scale * (row[field] - dense[field]):+.1f} at {row['gmacs_ratio']:.2f}{speed}"
            methods.setdefault(name, {})[column] = f"{cell} ({row['cost_param']}={row['cost_value']:g})"
    order = {name: place for place, name in enumerate(PLAIN)}
    names = sorted(methods, key=lambda name: (order[name.split()[0]], name))
    return ["method", *columns], [[name, *(methods[name].get(column) for column in columns)] for name in names]


def gpu_table(benchmarks: Sequence[dict]) -> tuple[list[str], list[list[object]]]:
    """Return headings and rows: how many times as fast as dense on a GPU, by batch, with and without a CUDA graph."""
    found = {}
    for result in benchmarks:
        for row in result["rows"]:
            if row.get("device") == "cuda" and row.get("speedup_vs_dense") not in (None, 1.0):
                setting = f"batch {row['batch']}" + (", CUDA graph" if row.get("cuda_graph") else "")
                key = (result["title"], row["model"], row["part"])
                found.setdefault(key, {})[setting] = row["speedup_vs_dense"]
    settings = {setting for cells in found.values() for setting in cells}
    ordered = sorted(settings, key=lambda name: ("graph" in name, int(name.split()[1].rstrip(","))))
    headings = ["measurement", "model", "part", *ordered]
    return headings, [[*key, *(cells.get(name) for name in ordered)] for key, cells in found.items()]


def _dense(row: dict) -> bool:
    return row.get("method") == "dense" or row["model"].startswith("dense")


def _machine(row: dict) -> str:
    machine = row.get("timing", row)["machine"]
    return machine["gpu"][0] if machine["gpu"] else f"CPU, {machine['threads']} threads"
