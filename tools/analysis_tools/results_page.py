"""Write docs/results.md, docs/benchmarks.md, docs/reliability.md and more from rows, so that no number is typed in.

    python tools/analysis_tools/results_page.py --add work_dirs/demo/results.json --name demo --title T --text "A text."
    python tools/analysis_tools/results_page.py --page benchmarks --add rows.json --name cpu --title T

Each JSON file in docs/results/ (or docs/benchmarks/ ...) has ``title``, ``text``, ``columns`` (field and heading)
and ``rows`` as ``mmcv_custom.results`` makes them. Results with a ``summary`` (--summary), whose rows hold scores and
times of the same trained weights, dense first, are in the table at the top of the page (``gains.py``); those with
``miniature`` (--miniature) stand at its end. Without ``--add``, the pages are regenerated.
"""

import argparse
import json
import re
from pathlib import Path

from choices import CASES, case_rows, gpu_table, score_table, shelf_table
from gains import HEADINGS, KEPT, draw, gains
from reliability_tables import COLUMNS as RELIABILITY
from reliability_tables import HEAD as RELIABILITY_HEAD

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import DataError
from mmcv_custom.files import write_file
from mmcv_custom.results import write_json

ROOT = Path(__file__).resolve().parents[2]
DETECTION = [
    ["model", "model"],
    ["box_AP", "box AP"],
    ["box_AP50", "box AP50"],
    ["mask_AP", "mask AP"],
    ["mIoU", "mIoU"],
    ["keep_ratio", "kept in pruned blocks"],
    ["gmacs", "GMACs"],
    ["block_gmacs", "GMACs of the blocks"],
    ["ms", "ms"],
    ["speedup_vs_dense", "times as fast as dense"],
    ["speedup_vs_dense_quartiles", "quartiles"],
    ["ms_backbone", "backbone ms"],
]
OPERATORS = [
    ["case", "case"],
    ["dtype", "type"],
    ["pass", "pass"],
    ["batch", "batch"],
    ["ms", "ms"],
    ["memory_floor_ms", "memory floor ms"],
    ["l2_bound_ms", "L2 bound ms"],
    ["speedup_vs_grid_sample", "times faster than grid_sample"],
    ["speedup_vs_grid_sample_quartiles", "quartiles"],
    ["speedup_vs_embedding_bag", "than embedding_bag"],
    ["speedup_vs_embedding_bag_quartiles", "quartiles"],
    ["speedup_vs_mmcv", "than MMCV"],
    ["speedup_vs_mmcv_quartiles", "quartiles"],
    ["share_of_selection", "share of selecting, gathering, restoring"],
    ["share_of_decision", "share of deciding"],
    ["share_of_decision_quartiles", "quartiles"],
    ["kept_flops", "operations on kept tokens"],
    ["speedup_vs_singles", "batch against singles"],
    ["speedup_vs_singles_quartiles", "quartiles"],
    ["speedup_vs_exact", "packed training against exact"],
    ["speedup_vs_exact_quartiles", "quartiles"],
    ["speedup_vs_dense", "against dense"],
    ["speedup_vs_dense_quartiles", "quartiles"],
    ["peak_mb", "peak MiB"],
]
MODELS = [
    ["model", "model"],
    ["cost_param", "cost parameter"],
    ["cost_value", "its value"],
    ["box_AP", "box AP"],
    ["mask_AP", "mask AP"],
    ["top1", "top-1"],
    ["mIoU", "mIoU"],
    ["part", "part"],
    ["precision", "type"],
    ["execution", "execution"],
    ["batch", "batch"],
    ["positions", "tokens"],
    ["keep_ratio", "kept in pruned blocks"],
    ["ms_median", "ms"],
    ["speedup_vs_first", "times faster than the first"],
    ["speedup_vs_first_quartiles", "quartiles"],
    ["flops_ratio", "FLOPs relative to dense"],
    ["ms_backbone", "backbone ms"],
    ["ms_neck", "neck ms"],
    ["ms_heads", "heads ms"],
    ["gmacs", "GMACs"],
    ["block_gmacs", "GMACs of the blocks"],
    ["detections", "detections"],
    ["peak_mb", "peak MiB"],
]
METHODS = [
    ["model", "model"],
    ["gmacs", "GMACs"],
    ["gmacs_ratio", "of the dense model's"],
    ["gmacs_off_the_shelf", "GMACs off the shelf"],
    ["off_the_shelf", "off the shelf"],
    ["off_the_shelf_std", "+-"],
    ["fine_tuned", "fine-tuned"],
    ["fine_tuned_std", "+-"],
    ["ms_median", "ms"],
    ["speedup_vs_first", "times faster than dense"],
    ["speedup_vs_first_quartiles", "quartiles"],
    ["seeds", "seeds"],
    ["metric", "metric"],
]
OFF_THE_SHELF = [
    ["model", "method"],
    ["auc_coco", "AUC COCO"],
    ["auc_pennfudan", "AUC Penn-Fudan"],
    ["correlation", "correlation with the dense map"],
    ["top1", "top-1"],
    ["miou", "mIoU"],
    ["box_AP", "box AP"],
    ["box_AP50", "box AP50"],
    ["mask_AP", "mask AP"],
    ["agreement", "same class as dense"],
    ["precision", "scored in"],
    ["gmacs", "GMACs"],
    ["gmacs_ratio", "of the dense network's"],
    ["tokens_computed", "tokens computed"],
    ["ms", "ms"],
    ["speedup_vs_dense", "times faster than dense"],
    ["speedup_vs_dense_quartiles", "quartiles"],
]
RUNTIMES = [
    ["case", "case"],
    ["form", "form"],
    ["box_AP", "box AP"],
    ["mask_AP", "mask AP"],
    ["mIoU", "mIoU"],
    ["top1", "top-1"],
    ["megabytes", "MB of the file"],
    ["batch", "batch"],
    ["gmacs", "GMACs"],
    ["ms", "ms"],
    ["speedup_vs_timm", "times faster than timm"],
    ["speedup_vs_timm_quartiles", "quartiles"],
    ["speedup_vs_eager_dense", "times faster than dense in eager PyTorch"],
    ["speedup_vs_eager_dense_quartiles", "quartiles"],
    ["speedup_vs_same_runtime_dense", "times faster than dense in the same runtime"],
    ["speedup_vs_same_runtime_dense_quartiles", "quartiles"],
    ["fastest_dense", "fastest dense form"],
    ["speedup_vs_fastest_dense", "times faster than that"],
    ["speedup_vs_fastest_dense_quartiles", "quartiles"],
]
HOSTS = [
    ["case", "case"],
    ["form", "form"],
    ["weights", "weights"],
    ["gmacs", "GMACs"],
    ["fewer_gmacs", "times fewer"],
    ["ms", "ms"],
    ["speedup_vs_dense", "times faster than dense"],
    ["speedup_vs_dense_quartiles", "quartiles"],
    ["efficiency", "share of that ratio"],
]
# Columns by a field that only rows of this kind have; all other rows are those of detectors.
KINDS = {
    "tokens_computed": OFF_THE_SHELF,
    "efficiency": HOSTS,
    "form": RUNTIMES,
    "fine_tuned": METHODS,
    "ms_median": MODELS,
    "case": OPERATORS,
}
PAGES = {"results": "Results", "benchmarks": "Benchmarks", "reliability": "Reliability"}
# What stands between these marks in the README is made here.
GAINS_MARKS = ("<!-- gains: made by tools/analysis_tools/results_page.py -->\n", "<!-- end of the gains -->")
GAINS_PLOT = "docs/images/gains.png"
GAINS_SHOWN, GAINS_COLUMNS = 3, 8  # rows and columns of its table in the README
# File and columns of the README's speed table.
README_TABLE = "30_speed_backbone_s"
SHORT = ("model", "keep_ratio", "ms_median", "speedup_vs_first", "speedup_vs_first_quartiles", "gmacs", "block_gmacs")
MARKS = ("<!-- speed table: made by tools/analysis_tools/results_page.py -->\n", "<!-- end of the speed table -->")
HEAD = """# {title}

Generated by `python tools/analysis_tools/results_page.py` from the rows in `docs/{name}/`, which also hold the machine
and all versions in full. GMACs count a multiply-add as 1. Machines differ and are noisy: compare times only within one
table, whose models were timed in turns on one machine. Each command is the one that was run at the commit named beside
it; some files have moved since.
"""
HEADS = {"reliability": RELIABILITY_HEAD}
# Tables of docs/choose_a_method.md, by the name in their marks.
CHOICES = ("cases", "shelf", "scores", "gpu")
GAINS_TEXT = (
    f"For every trained network and method, the fastest setting that keeps at least {KEPT:.0%} of the dense network's "
    "score and is faster than it by more than the quartiles of the measurement; scores and times are of the same "
    "weights. Methods with no such setting are left out here and stand in the tables below."
)
MINIATURES = """
## Miniatures

Networks of a few blocks on small images, trained in minutes on CPU cores: what can be compared without a GPU. The
blocks are a small part of them, so they show accuracy rather than speed.
"""
# How the weights of a table's rows are called on the page.
WEIGHTS = {"random": "Weights: random, so this is speed only.", "trained": "Weights: trained."}
# Text below the head of a page.
NOTES = {
    "benchmarks": """
Measured on CUDA, on one H100: deformable attention; ViT-Adapter-S dense and with SViT, backbone and whole Mask R-CNN;
DeiT-S with every method; segmentors of size S on CamVid with five methods. Not measured on CUDA yet: size T of SViT,
SegViT with DToP, and Cropr at size L. `make gpu-check STAGES="svit-t segmentors"` on a machine with a GPU writes those
rows to `work_dirs/gpu-check/`. Everything else was measured on CPU.
"""
}


def read_results(folder):
    """Return the contents of all JSON files in ``folder`` by name, each with the path of its plot."""
    paths = sorted(Path(folder).glob("*.json"))
    return [json.loads(path.read_text()) | dict(plot=path.with_suffix(".png")) for path in paths]


def page(folder):
    """Return the Markdown text for all JSON files in ``folder``: what is gained, all results, miniatures."""
    folder = Path(folder)
    title, results = PAGES.get(folder.name, "Results"), read_results(folder)
    large = [result for result in results if not result.get("miniature")]
    small = [result for result in results if result.get("miniature")]
    head = HEADS.get(folder.name, HEAD)
    parts = [head.format(title=title, name=folder.name), NOTES.get(folder.name, ""), _gains_section(large)]
    parts += map(_section, large)
    if small:
        parts += [MINIATURES, *(_section(result, "###") for result in small)]
    return "".join(parts)


def with_made_parts(text):
    """Return the README's text with new tables between its marks."""
    result = json.loads((ROOT / f"docs/benchmarks/{README_TABLE}.json").read_text())
    speed = _table([c for c in result["columns"] if c[0] in SHORT], result["rows"])
    text = _between(text, MARKS, speed)
    results = [result for result in read_results(ROOT / "docs/results") if not result.get("miniature")]
    # The fastest of each network.
    found = sorted((gain for result in results for gain in gains(result)[:1]), key=lambda gain: -gain.cells[6])
    return _between(text, GAINS_MARKS, _gains_lines(found[:GAINS_SHOWN], GAINS_PLOT, "docs/results.md", GAINS_COLUMNS))


def with_choices(text):
    """Return the text of docs/choose_a_method.md with new tables between its marks."""
    results, benchmarks = (read_results(ROOT / "docs" / name) for name in ("results", "benchmarks"))
    tables = [(CASES, case_rows(results)), shelf_table(results), score_table(results), gpu_table(benchmarks)]
    for name, (headings, rows) in zip(CHOICES, tables, strict=True):
        marks = (f"<!-- {name}: made by tools/analysis_tools/results_page.py -->\n", f"<!-- end of {name} -->")
        lines = [_line(headings), _line(["---"] * len(headings)), *(_line(map(_cell, row)) for row in rows)]
        text = _between(text, marks, lines)
    return text


def _between(text, marks, lines):
    start, end = text.index(marks[0]) + len(marks[0]), text.index(marks[1])
    return text[:start] + "\n".join(["", *lines, "", ""]) + text[end:]


def _gains_section(results):
    found = [gain for result in results for gain in gains(result)]
    if not found:
        return ""
    return "\n".join(["", "## What you get", "", GAINS_TEXT, "", *_gains_lines(found, GAINS_PLOT[5:], ""), ""])


def _gains_lines(found, plot, page, columns=None):
    """Return the table of gains, with links to their details on ``page``, and the plot below it."""
    if not found:
        return []
    rows = [[*map(_cell, gain.cells[:columns]), f"[command]({page}#{_anchor(gain.result['title'])})"] for gain in found]
    headings = [*HEADINGS[:columns], ""]
    image = ["", f"![Score against time, dense and pruned]({plot})"]
    return [_line(headings), _line(["---"] * len(headings)), *map(_line, rows), *image]


def _anchor(title):
    """Return the name under which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _table(columns, rows):
    columns = [(field, heading) for field, heading in columns if any(row.get(field) is not None for row in rows)]
    cells = [[_cell(row.get(field)) for field, _ in columns] for row in rows]
    return [_line(heading for _, heading in columns), _line(["---"] * len(columns)), *map(_line, cells)]


def _section(result, level="##"):
    rows = result["rows"]
    lines = _table(result["columns"], rows)
    commands = "\n".join(dict.fromkeys(row["command"] for row in [*rows, *_timings(rows)]))
    made = [_made("Made", rows[0]), *(_made("Timed", timing) for timing in _timings(rows)[:1])]
    weights = dict.fromkeys(WEIGHTS[row["weights"]] for row in rows if row.get("weights"))
    plot = result["plot"]
    image = [f"![{result['title']}]({plot.parent.name}/{plot.name})", ""] if plot.exists() else []
    return "\n".join(
        [
            "",
            f"{level} {result['title']}",
            "",
            result["text"],
            "",
            *lines,
            "",
            *image,
            " ".join([*made, *weights]),
            "",
            "```sh",
            commands,
            "```",
            "",
        ]
    )


def _timings(rows):
    """Return the circumstances of times that were measured apart from the scores."""
    return [row["timing"] for row in rows if "timing" in row]


def _made(what, row):
    machine = row["machine"]
    where = ", ".join([machine["cpu"], f"{machine['cores']} cores", *machine["gpu"]])
    return f"{what} on {row['date']} at commit {row['commit']} on {where}; torch {row['versions']['torch']}."


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _cell(value):
    if isinstance(value, float):
        if 0 < abs(value) < 0.0005:
            return f"{value:.1e}"
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    if isinstance(value, list):
        return ", ".join(_cell(v) for v in value)
    return "" if value is None else str(value)


def read_rows(path):
    """Return the rows of a file for --add; raise DataError if it holds none."""
    try:
        rows = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"--add {path} cannot be read ({error}): give a file that a tool wrote with --json") from None
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise DataError(f"--add {path} is no list of rows: give a file that a tool wrote with --json")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", choices=PAGES, default="results", help="page that --add changes (default: results)")
    parser.add_argument("--add", metavar="ROWS.json", help="rows to add to the page, or to replace there")
    parser.add_argument("--name", help="name of the file in the page's folder; tables are sorted by it")
    parser.add_argument("--title", help="heading of the table")
    parser.add_argument("--text", default="", help="description above the table")
    parser.add_argument(
        "--summary",
        nargs=4,
        metavar=("TASK", "HOST", "FIELD", "HEADING"),
        help="also list it at the top of the page: FIELD is the score, HEADING its name",
    )
    parser.add_argument("--miniature", action="store_true", help="a network too small to be of use: at the page's end")
    parser.add_argument("--plot", metavar="FILE.png", help="an image to show below the table")
    args = parser.parse_args()
    if args.add:
        if not (args.name and args.title):
            parser.error("--add needs --name and --title")
        rows = read_rows(args.add)
        if args.plot and not Path(args.plot).is_file():
            raise DataError(f"--plot {args.plot} does not exist: check the path")
        columns = RELIABILITY.get(rows[0].get("kind"))
        columns = columns or next((found for field, found in KINDS.items() if field in rows[0]), DETECTION)
        target = ROOT / "docs" / args.page / f"{args.name}.json"
        if args.plot:
            write_file(target.with_suffix(".png"), Path(args.plot).read_bytes())
        content = dict(title=args.title, text=args.text, columns=columns, rows=rows)
        if args.summary:
            content["summary"] = dict(zip(("task", "host", "score", "heading"), args.summary, strict=True))
        if args.miniature:
            content["miniature"] = True
        write_json(target, content)
    for name in PAGES:
        write_file(ROOT / f"docs/{name}.md", page(ROOT / "docs" / name))
    draw([r for r in read_results(ROOT / "docs/results") if not r.get("miniature")], ROOT / GAINS_PLOT)
    for name, remade in (("README.md", with_made_parts), ("docs/choose_a_method.md", with_choices)):
        write_file(ROOT / name, remade((ROOT / name).read_text()))


if __name__ == "__main__":
    run(main)
