"""Shared functions of the converters: output folders that are written whole or not at all, and checks of the source."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image, UnidentifiedImageError


def check_apart(src: Path, out: Path) -> None:
    """Raise ValueError if one of two folders lies in the other."""
    if src.is_relative_to(out) or out.is_relative_to(src):
        raise ValueError(f"{out} and {src} are one inside the other; give an output folder outside the source")


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Raise ValueError if ``out`` cannot become a new folder, or holds files and ``overwrite`` is not set."""
    if out.exists() and (not out.is_dir() or Path.cwd().is_relative_to(out)):
        raise ValueError(f"{out} is a file or contains the current directory; give another output folder")
    if not overwrite and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} already holds other files; give another folder, or --overwrite to replace all of it")


def holds(out: Path, names: Collection[str]) -> bool:
    """Return whether ``out`` holds the files of these names and no others.

    As it is written whole or not at all, names are enough to know a finished result.
    """
    return set(names) == {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def run(main: Callable[[], object], *errors: type[Exception]) -> None:
    """Run a converter's ``main``; what is wrong with its input or output is one sentence, and Ctrl-C one word.

    Args:
        main: reads the arguments and converts.
        errors: kinds of errors that also speak of the input, beside ValueError and OSError.
    """
    name = Path(sys.argv[0]).stem
    try:
        main()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, *errors) as error:
        sys.exit(f"{name}: {error}")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder beside ``out``: renamed to ``out`` when the body is done, removed when it fails.

    A folder that is at ``out`` already is replaced. What a run that was killed has left beside ``out`` is removed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(out)
    part = out.with_name(f".{out.name}.{uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        with _locked(part):
            yield part
            if out.exists():
                old = part.with_suffix(".old")
                with _locked(out):
                    out.rename(old)
                    part.rename(out)
                    shutil.rmtree(old)
            else:
                part.rename(out)
    except OSError as error:
        raise _explained(error, part, out) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _explained(error: OSError, part: Path, out: Path) -> Exception:
    """Return what to raise for an error while ``part`` was written: a sentence if the disk is full."""
    from mmcv_custom.files import free_space, in_words, out_of_space  # loads torch, which takes seconds

    if not out_of_space(error):
        return error
    size, free = sum(path.lstat().st_size for path in part.rglob("*")), free_space(part)
    shutil.rmtree(part, ignore_errors=True)
    return ValueError(
        f"{out} cannot be written: no space is left on its disk or in its quota (more than {in_words(size)} needed, "
        f"{in_words(free)} free)" + (", and the folder from before is kept" if out.exists() else "") + ": delete "
        "something there, or give another output folder"
    )


def _remove_left(out: Path) -> None:
    """Remove unfinished folders of dead processes; a folder that was about to be replaced gets its name back."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.????????.*"):
        if left.suffix in (".part", ".old"):
            with _locked(left) as ours:
                if ours and left.suffix == ".old" and not out.exists():
                    left.rename(out)
                elif ours:
                    shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder as long as this process lives; yield whether no other process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is known of the other process
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except OSError:  # another process holds it, or the file system has no locks
        ours = False
    try:
        yield ours
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Create ``target`` as a hard link to ``source``, or as a copy where the disk does not allow links."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copy2(source, target)


def open_image(path: Path) -> Image.Image:
    """Return the decoded image at ``path``; raise ValueError if it does not decode."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} does not decode ({error}); unpack the data set again") from None


def images_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the images of a folder that have one of the suffixes, sorted by name, without hidden ones."""
    from mmcv_custom.data.image_files import list_folder  # loads torch, which takes seconds

    return sorted(folder / name for name in list_folder(folder, suffixes)[0])


def check_files(paths: Sequence[Path], what: str) -> None:
    """Raise ValueError if one of ``paths``, called ``what`` in the message, is not a file."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{missing[0].parent} lacks {len(missing)} of {len(paths)} {what}, first {missing[0].name}; "
            "unpack the data set again"
        )


def check_pairs(pairs: Sequence[tuple[Path, Path]], what: str) -> None:
    """Check pairs (image, label map) of paths, sorted by image.

    Args:
        what: name of the label maps in the message.

    Raises:
        ValueError: a label map is not a file, or an image exists with two suffixes.
    """
    check_files([labels for _, labels in pairs], what)
    for (a, _), (b, _) in pairwise(pairs):
        if a.stem == b.stem:
            raise ValueError(f"{a.parent} holds {a.stem} as more than one file; keep one of them")


def check_size(labels: np.ndarray, what: str | Path, image: Path) -> None:
    """Raise ValueError if an array, called ``what``, does not have the size (h, w) of the image at a path."""
    from mmcv_custom.data.image_files import loaded_size  # loads torch, which takes seconds

    open_image(image)  # decodes all of it
    width, height = loaded_size(image)
    if labels.shape != (height, width):
        raise ValueError(
            f"{what} has shape {labels.shape}, but its image is {height} x {width} (height x width); "
            "unpack the data set again"
        )
