"""What pruning gains: of results with trained weights, a score and a speed, the settings that keep the score.

A result is the content of a file in docs/results/. Its ``summary`` names the task, the host, the field of the score and
the score's heading; its first row is the dense network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcv_custom.benchmark.styles import STYLES
from mmcv_custom.files import replacing

KEPT = 0.99  # of the dense network's score, at least
ACROSS = 3  # panels of the plot side by side
SPAN = 0.1  # of the dense network's score that an axis shows at least, so that noise does not look like a difference


@dataclass(frozen=True)
class Gain:
    """A pruned network that keeps the score of the dense one.

    Attributes:
        result: the content of its file.
        dense: row of the dense network.
        row: its own row.
    """

    result: dict
    dense: dict
    row: dict

    @property
    def cells(self) -> list[object]:
        """The values below ``HEADINGS``."""
        summary, machine = self.result["summary"], self.row.get("timing", self.row)["machine"]
        score, where = summary["score"], machine["gpu"] or [f"{machine['cpu']}, {machine['threads']} threads"]
        return [
            summary["task"],
            summary["host"],
            _label(self.row),
            summary["heading"],
            self.dense[score],
            self.row[score],
            _speed(self.row),
            _speed(self.row, "_quartiles"),
            self.dense["gmacs"],
            self.row["gmacs"],
            where[0],
        ]


HEADINGS = [
    "task",
    "host",
    "method",
    "score",
    "dense",
    "pruned",
    "times faster",
    "quartiles",
    "GMACs dense",
    "pruned",
    "machine",
]


def gains(result: dict) -> list[Gain]:
    """Return, for every method in a result, the fastest setting that is faster than dense and keeps the score."""
    rows = comparable(result)
    if not rows:
        return []
    score, best = result["summary"]["score"], {}
    for row in sorted(rows[1:], key=_speed):
        certain = _speed(row, "_quartiles")[0] > 1  # faster by more than the noise of the measurement
        if certain and row[score] >= KEPT * rows[0][score]:
            best[method_of(row)] = row
    return sorted((Gain(result, rows[0], row) for row in best.values()), key=lambda gain: -_speed(gain.row))


def draw(results: Sequence[dict], path: Path) -> None:
    """Plot score against time, a panel for each result with a summary and times; no file if there is none."""
    from matplotlib.figure import Figure

    panels = [(result, rows) for result in results if (rows := comparable(result))]
    if not panels:
        return
    down, across = -(-len(panels) // ACROSS), min(len(panels), ACROSS)
    figure = Figure(figsize=(5 * across, 4 * down), layout="constrained")
    places = figure.subplots(down, across, squeeze=False).flatten()
    for axes in places[len(panels) :]:
        axes.remove()
    for axes, (result, rows) in zip(places, panels, strict=False):
        summary = result["summary"]
        dense = [row for row in rows if row is rows[0] or row.get("method") == "dense"]
        pruned = [row for row in rows if row not in dense]
        methods = dict.fromkeys(map(method_of, pruned))
        for method, (colour, marker) in zip(methods, STYLES * len(methods), strict=False):
            points = sorted((_ms(row), row[summary["score"]]) for row in pruned if method_of(row) == method)
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=method)
        for row, colour in zip(dense, ("black", "grey") * len(dense), strict=False):
            axes.plot(_ms(row), row[summary["score"]], "*", color=colour, markersize=14, label=row["model"])
        axes.set(xlabel="ms per image", ylabel=summary["heading"], title=f"{summary['task']}\n{summary['host']}")
        low, high = axes.get_ylim()
        missing = max(SPAN * rows[0][summary["score"]] - (high - low), 0)
        axes.set_ylim(low - missing / 2, high + missing / 2)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=130)


def comparable(result: dict) -> list[dict]:
    """Return the rows of a summarized result that were scored and timed with the same weights, the dense one first."""
    rows = result["rows"] if "summary" in result else []
    if any(row.get("weights") == "random" for row in rows):
        return []
    score = result["summary"]["score"] if rows else None
    whole = [row for row in rows if _speed(row) is not None and row.get(score) is not None]
    return whole if len(whole) > 1 and whole[0] is rows[0] else []


def method_of(row: dict) -> str:
    """Return what a row is one setting of: its method where the cost is varied, else its model."""
    return row["method"] if row.get("cost_param") else _label(row)


def _label(row: dict) -> str:
    """Return the name of a row's model, which says method and setting; where it is just "pruned", the method."""
    return row.get("method", "pruned") if row["model"] == "pruned" else row["model"]


def _speed(row: dict, part: str = "") -> object:
    """Return a row's speed-up over the dense network, or with ``part`` its quartiles."""
    return row.get(f"speedup_vs_dense{part}", row.get(f"speedup_vs_first{part}"))


def _ms(row: dict) -> float:
    return row.get("ms", row.get("ms_median")) / row.get("timing", row).get("batch", 1)
