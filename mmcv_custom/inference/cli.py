"""Code that the three demos share: options and their checks, the model, the output folder."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS

from ..data.image_files import unique_names
from ..errors import ConfigError, DataError
from ..files import out_of_space
from ..results import write_json
from ..shipped import find_config
from ..tasks import DETECTION_PALETTES, model_words, task_of
from .exported import is_exported
from .predictor import Predictor, image_files
from .results import SCORE_THR, Result

CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")


def demo_parser(
    description: str, input_name: str, input_help: str, out: str, optional: bool = False
) -> argparse.ArgumentParser:
    """Return a parser with the positional arguments and options that all demos have.

    Args:
        input_name, input_help: first positional argument; ``optional``: it may be left out.
        out: default of ``--out``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(input_name, help=input_help, nargs="?" if optional else None)
    if optional:
        parser.add_argument("config", help=f"config of a {model_words()}")
        parser.add_argument("checkpoint", help="its weights; none: random weights")
    else:
        parser.add_argument("config", help=f"config of a {model_words()}, or a file of tools/export.py")
        parser.add_argument("checkpoint", nargs="?", help="its weights; none: random weights; a file has its own")
    parser.add_argument("--out", default=out, help=f"where to write (default: {out})")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument(
        "--score-thr",
        type=float,
        default=SCORE_THR,
        metavar="S",
        help=f"least score of drawn detections (default: {SCORE_THR:g})",
    )
    parser.add_argument(
        "--palette",
        default="safe",
        choices=["safe", *DETECTION_PALETTES, "random"],
        help="colours of the classes (default: safe, which colour-blind readers can tell apart)",
    )
    parser.add_argument(
        "--ratio",
        type=float,
        metavar="X",
        help="set the method's cost parameter: keep_ratio; for SViT ratio_scale, for ToMe and PPT r (tokens "
        "per block, or a fraction below 1), for CubistMerge r (rows and columns), for MPM merges, for DToP and ALGM "
        "the threshold, for APT the thresholds",
    )
    parser.add_argument(
        "--mode", choices=["target", "threshold", "ratio", "sample"], help="SViT only: how probabilities select tokens"
    )
    return parser


def load_predictor(args: argparse.Namespace) -> Predictor:
    """Return the model that the options of ``demo_parser`` describe; print its notes.

    Raises:
        ConfigError: an option is out of range, or the method does not have it.
    """
    exported = is_exported(args.config)
    if args.checkpoint is None and not exported:
        raise ConfigError(f"{args.config} comes without a checkpoint: give one (none: random weights)")
    if not exported and Path(find_config(args.config)).suffix not in CONFIG_SUFFIXES:
        raise ConfigError(f"{args.config} is no config (.py): is the checkpoint missing? (none: random weights)")
    if not 0 <= args.score_thr <= 1:
        raise ConfigError(f"--score-thr {args.score_thr:g} is no score: give a number from 0 to 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = None if args.checkpoint == "none" else args.checkpoint
        predictor = Predictor(args.config, checkpoint, device=args.device)
    if args.mode is not None:
        predictor.reconfigure(mode=args.mode)
    if args.ratio is not None:
        predictor.set_cost(args.ratio)
    for sentence in predictor.notes:
        note(sentence)
    return predictor


def note(sentence: str) -> None:
    """Print a sentence that the user should know but need not act on."""
    print(f"Note: {sentence}.")


def make_folder(path: str) -> Path:
    """Return the output folder, created if needed; raise ConfigError if it cannot be written to."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if out_of_space(error):
            raise
        raise ConfigError(f"--out {path} cannot be made ({error.strerror}): give another folder") from None
    if not os.access(path, os.W_OK):
        raise ConfigError(f"--out {path} cannot be written to: give another folder")
    return Path(path)


def input_files(images: str, out: str) -> list[Path]:
    """Return the images that a demo reads: one file, or those of a folder.

    Raises:
        DataError: there are none.
        ConfigError: one of them is in the folder ``out``, where it could be overwritten.
    """
    if not Path(images).exists():
        raise DataError(f"image {images} does not exist: check the path")
    files = image_files(images, note)
    if Path(out).resolve() in {file.resolve().parent for file in files}:
        raise ConfigError(f"--out {out} holds the images themselves: give another folder")
    return files


def named_results(predictor: Predictor, files: list[Path] | None, left_out: list[str]) -> Iterator[tuple[str, Result]]:
    """Yield a unique name and the result of each image.

    Images of a folder that cannot be read are skipped; each adds a sentence to ``left_out``.

    Args:
        files: None for the example photograph.

    Raises:
        DataError: none of the images can be read.
    """
    images = [example_image(predictor.input_size())] if files is None else files
    names = unique_names(["embedded" if files is None else file.stem for file in images])
    for name, image in zip(names, images, strict=True):
        try:
            result = predictor(image)
        except DataError as error:
            if len(files or ()) == len(left_out) + 1:
                raise
            left_out.append(str(error))
            print(f"Left out: {error}.", flush=True)
            continue
        yield name, result


def example_image(size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a photograph (h, w, 3) uint8 RGB that an installed package contains, resized to ``size`` (h, w)."""
    from importlib.util import find_spec

    from PIL import Image

    # Located without importing the package, which is large: only its file is needed.
    file = Path(find_spec("skimage").origin).parent / "data" / "astronaut.png"
    image = Image.open(file).convert("RGB")
    return np.asarray(image if size is None else image.resize(size[::-1], Image.Resampling.LANCZOS))


def palette_of(name: str, predictor: Predictor) -> list[tuple[int, int, int]] | None:
    """Return the palette called ``name`` for the model's classes; None for the default one of ``Result.draw``.

    Prints a note where the palette has fewer colours than the model has classes.
    """
    classes = len(predictor.classes)
    if name == "safe":
        return None
    if name == "random":
        return [tuple(map(int, c)) for c in np.random.default_rng(0).integers(0, 256, (max(classes, 1), 3))]
    dataset = DATASETS.get(task_of(predictor.cfg).palettes[name])
    palette = [tuple(colour) for colour in dataset.METAINFO["palette"]]
    if len(palette) < classes:
        print(f"Note: --palette {name} has {len(palette)} colours for {classes} classes: some share one.")
    return palette


def write_results(path: Path, predictor: Predictor, results: list[dict], left_out: list[str]) -> None:
    """Write the JSON file of a demo: the model, its result for each image, and the images that were left out."""
    write_json(
        path,
        dict(
            config=predictor.cfg.filename,
            notes=predictor.notes,
            reducer=predictor.reducer_config,
            results=results,
            left_out=left_out,
        ),
    )


def check_left_out(left_out: list[str]) -> None:
    """Raise DataError if images were left out; the last step of a demo."""
    if left_out:
        raise DataError(f"{len(left_out)} of the images cannot be read and were left out: results.json says which")
