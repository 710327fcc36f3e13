"""What the three demos share: arguments, their checks, the model, the folder that they write to."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS

from ..errors import ConfigError, DataError
from ..results import write_json
from .predictor import Predictor, folder_of
from .results import Detection, Result

# Palettes by the name that the published demos have for them, and whose they are.
PALETTES = dict(coco="mmdet.CocoDataset", voc="mmdet.VOCDataset", citys="mmdet.CityscapesDataset")
SEGMENTATION = dict(PALETTES, voc="mmseg.PascalVOCDataset", citys="mmseg.CityscapesDataset")  # with background, stuff
CONFIGS = (".py", ".json", ".yaml", ".yml")


def demo_parser(description: str, input_name: str, input_help: str, out: str, optional: bool = False):
    """An argparse parser with the positional arguments and the options that all demos have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(input_name, help=input_help, nargs="?" if optional else None)
    parser.add_argument("config", help="of a detector, segmentor or classifier")
    parser.add_argument("checkpoint", help="its weights; none: random ones")
    parser.add_argument("--out", default=out, help=f"where to (default: {out})")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument(
        "--score-thr", type=float, default=0.3, metavar="S", help="draw detections from this score on (default: 0.3)"
    )
    parser.add_argument(
        "--palette",
        default="safe",
        choices=["safe", *PALETTES, "random"],
        help="colours of the classes (default: safe, which colour-blind readers can tell apart)",
    )
    parser.add_argument(
        "--ratio",
        type=float,
        metavar="X",
        help="turn the method's own cost parameter: keep_ratio; of SViT ratio_scale, of ToMe and PPT r (tokens "
        "of each block, or a share below 1), of DToP the threshold",
    )
    parser.add_argument(
        "--mode", choices=["target", "threshold", "ratio", "sample"], help="of SViT: how probabilities become a choice"
    )
    return parser


def load_predictor(args: argparse.Namespace) -> Predictor:
    """The model that the options ask for; what should be known about it is printed.

    Raises:
        ConfigError: an option out of its range, or one that the method does not have.
    """
    if Path(args.config).suffix not in CONFIGS:
        raise ConfigError(f"{args.config} is no config (.py): is the checkpoint missing? (none: random weights)")
    if not 0 <= args.score_thr <= 1:
        raise ConfigError(f"--score-thr {args.score_thr:g} is no score: give a number from 0 to 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = Predictor(args.config, None if args.checkpoint == "none" else args.checkpoint, device=args.device)
    if args.mode is not None:
        predictor.reconfigure(mode=args.mode)
    if args.ratio is not None:
        predictor.cost_param(args.ratio)
    for sentence in predictor.notes:
        print(f"Note: {sentence}.")
    return predictor


def make_folder(path: str) -> Path:
    """The folder, made where it is not there. Raises ConfigError where nothing can be written to it."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be made ({error.strerror}): give another folder") from None
    if not os.access(path, os.W_OK):
        raise ConfigError(f"--out {path} cannot be written to: give another folder")
    return Path(path)


def files_of(images: str, out: str) -> list[Path]:
    """The images that a demo reads: a file, or those of a folder.

    Raises:
        DataError: there are none.
        ConfigError: one of them is in the folder ``out``, where it could be overwritten.
    """
    if not Path(images).exists():
        raise DataError(f"image {images} does not exist: check the path")
    files = folder_of(images)
    if Path(out).resolve() in {file.resolve().parent for file in files}:
        raise ConfigError(f"--out {out} holds the images themselves: give another folder")
    return files


def results_of(predictor: Predictor, files: list[Path] | None, left_out: list[str]) -> Iterator[tuple[str, Result]]:
    """A name of its own and the result of each image; None is an embedded photograph. Of several, those that cannot
    be read are skipped: each adds a sentence to ``left_out``.

    Raises:
        DataError: none of them can be read.
    """
    taken: set[str] = set()
    for image in [embedded(predictor.input_size())] if files is None else files:
        try:
            result = predictor(image)
        except DataError as error:
            if len(files or ()) == len(left_out) + 1:
                raise
            left_out.append(str(error))
            print(f"Left out: {error}.", flush=True)
            continue
        stem = name = Path(result.path or "embedded").stem
        numbers = count(2)
        while name in taken:
            name = f"{stem}_{next(numbers)}"
        taken.add(name)
        yield name, result


def shown(result: Result, least_score: float) -> Result:
    """What is drawn and said of a result: of detections the sure ones."""
    return result.above(least_score) if isinstance(result, Detection) else result


def embedded(size: tuple[int, int] | None = None) -> np.ndarray:
    """A photograph that an installed package holds, as (h, w, 3) uint8 RGB, brought to ``size`` (h, w) where a model
    takes no other."""
    from importlib.util import find_spec

    from PIL import Image

    # Found without importing: the package is large and only its file is wanted.
    file = Path(find_spec("skimage").origin).parent / "data" / "astronaut.png"
    image = Image.open(file).convert("RGB")
    return np.asarray(image if size is None else image.resize(size[::-1], Image.Resampling.LANCZOS))


def colours(name: str, predictor: Predictor) -> list[tuple[int, int, int]] | None:
    """The palette of that name for the model's classes; None for the one that ``draw`` has itself. That it is too small
    is printed."""
    classes = len(predictor.classes)
    if name == "safe":
        return None
    if name == "random":
        return [tuple(map(int, c)) for c in np.random.default_rng(0).integers(0, 256, (max(classes, 1), 3))]
    owners = SEGMENTATION if predictor.cfg.get("default_scope") == "mmseg" else PALETTES
    found = [tuple(c) for c in DATASETS.get(owners[name]).METAINFO["palette"]]
    if len(found) < classes:
        print(f"Note: --palette {name} has {len(found)} colours for {classes} classes: some share one.")
    return found


def write_numbers(path: Path, predictor: Predictor, found: list[dict], left_out: list[str]) -> None:
    """The JSON of a demo: which model, what it found and computed in each image, which ones it could not read."""
    write_json(
        path,
        dict(
            config=predictor.cfg.filename,
            notes=predictor.notes,
            reducer=predictor.given,
            results=found,
            left_out=left_out,
        ),
    )


def end(left_out: list[str]) -> None:
    """Raise DataError, one sentence, where images were left out: a demo's last step."""
    if left_out:
        raise DataError(f"{len(left_out)} of the images cannot be read and were left out: results.json says which")
