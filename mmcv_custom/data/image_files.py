"""Images that are no data set: which files a folder has, and how a config's test pipeline takes them."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def pipeline_steps(cfg: Config) -> list[dict]:
    """The config's test pipeline without the steps that read annotations: loading, what is done, packing."""
    try:
        pipeline = cfg.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ConfigError(
            f"config {cfg.filename} has no test_dataloader.dataset.pipeline: nothing says how an image becomes an input"
        ) from None
    steps = [step for step in pipeline if "Annotations" not in step["type"]]
    if not steps:
        raise ConfigError(
            f"config {cfg.filename} has an empty test_dataloader.dataset.pipeline: nothing says how a "
            "image becomes an input"
        )
    return steps


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name; where it has none, those of its folders (class folders), one from each in
    turn."""
    files = _images(folder)
    if not files:
        columns = [_images(inner) for inner in sorted(folder.iterdir()) if inner.is_dir()]
        files = [file for line in zip_longest(*columns) for file in line if file]
    return files


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)


def check_image(path: str) -> None:
    """Raise DataError, one sentence, for a file that is missing, no image, or cut short (whose rest some decoders
    would paint grey)."""
    from PIL import Image

    if not Path(path).exists():
        raise DataError(f"image {path} does not exist: check the path")
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder where an image is wanted")
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # each decoder has its own
        raise DataError(
            f"{path} is no image that can be read ({' '.join(str(error).split())}): save it again or take it out"
        ) from None
