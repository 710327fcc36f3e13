"""Images outside of data sets: the files of a folder, and the test pipeline that loads them."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def pipeline_steps(cfg: Config) -> list[dict]:
    """Return the config's test pipeline, from loading to packing, without the steps that read annotations.

    Raises:
        ConfigError: there is no test pipeline, or it is empty.
    """
    try:
        pipeline = cfg.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ConfigError(
            f"config {cfg.filename} has no test_dataloader.dataset.pipeline: nothing says how an image becomes an input"
        ) from None
    steps = [step for step in pipeline if "Annotations" not in step["type"]]
    if not steps:
        raise ConfigError(
            f"config {cfg.filename} has an empty test_dataloader.dataset.pipeline: nothing says how an "
            "image becomes an input"
        )
    return steps


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder by name; if it has none, those of its subfolders, one from each in turn."""
    files = _images(folder)
    if not files:
        columns = [_images(inner) for inner in sorted(folder.iterdir()) if inner.is_dir()]
        files = [file for line in zip_longest(*columns) for file in line if file]
    return files


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)


def loaded_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of an image as ``LoadImage`` gives it, from the file's header.

    The loader turns JPEG and PNG files by their EXIF orientation, and no others.

    Raises:
        DataError: the file is missing or is no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            (width, height), turnable = image.size, image.format in ("JPEG", "MPO", "PNG")
            if turnable and _orientation(image) in (5, 6, 7, 8):
                return height, width
            return width, height
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist: check the path") from None
    except Exception as error:  # each decoder raises its own exceptions
        raise DataError(_unreadable(path, error)) from None


def _orientation(image):
    from PIL import Image

    exif = Image.Exif()  # Image.getexif would also read XMP, which the loader does not
    try:
        exif.load(image.info.get("exif", b""))
    except Exception:  # a broken block, which the loader skips
        return None
    return exif.get(0x112)


def _unreadable(path, error):
    return f"{path} is no image that can be read ({' '.join(str(error).split())}): save it again or take it out"


def check_image(path: str) -> None:
    """Raise DataError if a file is missing, is not an image, or is truncated.

    Some decoders fill the rest of a truncated image with grey.
    """
    from PIL import Image

    if not Path(path).exists():
        raise DataError(f"image {path} does not exist: check the path")
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder where an image is wanted")
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # each decoder raises its own exceptions
        raise DataError(_unreadable(path, error)) from None
