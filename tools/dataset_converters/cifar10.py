"""Convert CIFAR-10, or a part of it, to one folder of images per class.

SRC is a zip that holds .../train/CLASS/IMAGE and .../val/CLASS/IMAGE (any classes, any image format), or the
official `cifar-10-binary.tar.gz` (https://www.cs.toronto.edu/~kriz/cifar.html), whose test batch becomes val.

    python tools/dataset_converters/cifar10.py cifar10.zip data/cifar10

    OUT/train/CLASS/*   files of a zip unchanged; PNG from the official file
    OUT/val/CLASS/*
"""

import argparse
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from whole_folder import check_apart, check_replaceable, holds, run, whole_folder

SPLITS = ("train", "val")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # label, then red, green and blue planes
PARTS = {**{f"data_batch_{i}.bin": "train" for i in range(1, 6)}, "test_batch.bin": "val"}
LIST = "batches.meta.txt"


def read_zip(src):
    """Yield (split, class, file name, bytes) for every image of a zip of class folders."""
    with zipfile.ZipFile(src) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or path.suffix.lower() not in SUFFIXES or len(path.parts) < 3:
                continue
            split, name = path.parts[-3:-1]
            if split not in SPLITS or name in (".", ".."):
                raise ValueError(f"{src} holds {entry.filename}; images must lie in train/CLASS/ or val/CLASS/")
            yield split, name, path.name, archive.read(entry)


def read_official(src):
    """Yield the same for the official binary file, with images encoded as PNG."""
    with tarfile.open(src) as archive:
        members = {PurePosixPath(m.name).name: m for m in archive if m.isfile()}
        missing = [name for name in (*PARTS, LIST) if name not in members]
        if missing:
            raise ValueError(f'{src} lacks {missing[0]}; give cifar-10-binary.tar.gz (the "binary version")')
        classes = archive.extractfile(members[LIST]).read().decode().split()
        for part, split in PARTS.items():
            content = np.frombuffer(archive.extractfile(members[part]).read(), np.uint8)
            if len(content) % RECORD or not len(content):
                raise ValueError(f"{part} in {src} is incomplete; download it again")
            for number, record in enumerate(content.reshape(-1, RECORD)):
                if record[0] >= len(classes):
                    raise ValueError(f"{part} in {src} has label {record[0]} of {len(classes)}; download it again")
                image = record[1:].reshape(3, SIDE, SIDE)[::-1].transpose(1, 2, 0)  # to (h, w, BGR)
                encoded = cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()
                yield split, classes[record[0]], f"{part.removesuffix('.bin')}_{number:05d}.png", encoded


def convert(src, out, overwrite=False):
    """Convert the file ``src`` to the folder ``out``, unless it is done; return split -> number of images.

    Raises:
        ValueError: ``src`` is not the data set, or ``out`` holds other files and ``overwrite`` is not set.
    """
    src, out = Path(src).resolve(), Path(out).resolve()
    if not src.is_file():
        raise ValueError(f"{src} does not exist; give the zip or the official tar.gz")
    check_apart(src, out)
    if zipfile.is_zipfile(src):
        read = read_zip
    elif tarfile.is_tarfile(src):
        read = read_official
    else:
        raise ValueError(f"{src} is neither a zip nor a tar file; download it again")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        made = {f"{split}/{name}/{file}": content for split, name, file, content in read(src)}
        if holds(out, made) and all((out / name).read_bytes() == content for name, content in made.items()):
            return {split: sum(name.startswith(f"{split}/") for name in made) for split in SPLITS}
    check_replaceable(out, overwrite)
    classes, counts = {split: set() for split in SPLITS}, dict.fromkeys(SPLITS, 0)
    with whole_folder(out) as folder:
        for split, name, file, content in read(src):
            target = folder / split / name
            if name not in classes[split]:
                target.mkdir(parents=True)
                classes[split].add(name)
            (target / file).write_bytes(content)
            counts[split] += 1
        if not all(counts.values()):
            raise ValueError(
                f"{src} holds {counts['train']} train and {counts['val']} val images in class folders; both are needed"
            )
        if classes["train"] != classes["val"]:
            other = sorted(classes["train"] ^ classes["val"])[0]
            raise ValueError(f"{src} has class {other} in one split only; every class must be in train and val")
    return counts


def main():
    parser = argparse.ArgumentParser(description="Convert CIFAR-10 to class folders.")
    parser.add_argument("src", metavar="SRC", help="zip of class folders, or cifar-10-binary.tar.gz")
    parser.add_argument("out", metavar="OUT", help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="convert again and replace everything in OUT")
    args = parser.parse_args()
    counts = convert(**vars(args))
    print(f"{args.out}: {counts['train']} train and {counts['val']} val images")


if __name__ == "__main__":
    run(main, zipfile.BadZipFile, tarfile.TarError)
