"""Find files that are not whole: each is read as its users read it."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from PIL import Image
from safetensors.torch import load_file

from mmcv_custom.checkpoint import read_checkpoint


def _image(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _json(path: Path) -> None:
    text = path.read_text()
    if path.name == "scalars.json" or path.parent.name == "vis_data":
        for line in text.splitlines()[:-1]:  # appended to: the last line may be unfinished, and readers leave it out
            json.loads(line)
    else:
        json.loads(text)


def _pickle(path: Path) -> None:
    with path.open("rb") as file:
        pickle.load(file)  # written by this very program


def _pointer(path: Path) -> None:
    if not Path(path.read_text()).is_file():
        raise ValueError("it names a file that does not exist")


READERS: dict[str, Callable[[Path], object]] = {
    ".pth": read_checkpoint,
    ".safetensors": load_file,
    ".json": _json,
    ".pkl": _pickle,
    ".png": _image,
    ".jpg": _image,
    ".py": Config.fromfile,
}


def broken_files(folder: Path) -> list[str]:
    """Return a sentence for each file below ``folder`` that its reader refuses.

    Names that begin with a dot are those of unfinished work, which nothing reads.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        reader = _pointer if path.name == "last_checkpoint" else READERS.get(path.suffix)
        if reader is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader(path)
        except Exception as error:
            found.append(f"{name} is not whole ({type(error).__name__}: {str(error)[:100]})")
    return found
