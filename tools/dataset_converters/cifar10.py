"""Unpack CIFAR-10, or a part of it, to one folder of images per class.

SRC is a zip that holds .../train/CLASS/IMAGE and .../val/CLASS/IMAGE (any classes, any image format), or the
official `cifar-10-binary.tar.gz` (https://www.cs.toronto.edu/~kriz/cifar.html), whose test batch becomes val.

    python tools/dataset_converters/cifar10.py cifar10.zip data/cifar10

    OUT/train/CLASS/*   as they lie in a zip; PNG from the official file
    OUT/val/CLASS/*
"""

import argparse
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from whole_folder import check_new, whole_folder

SPLITS = ("train", "val")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # label, then red, green and blue planes
PARTS = {**{f"data_batch_{i}.bin": "train" for i in range(1, 6)}, "test_batch.bin": "val"}
LIST = "batches.meta.txt"


def read_zip(source):
    """Yields (split, class, file name, bytes) for every image of a zip of class folders."""
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or path.suffix.lower() not in SUFFIXES or len(path.parts) < 3:
                continue
            split, name = path.parts[-3:-1]
            if split not in SPLITS or name in (".", ".."):
                raise ValueError(f"{source} holds {entry.filename}; images must lie in train/CLASS/ or val/CLASS/")
            yield split, name, path.name, archive.read(entry)


def read_official(source):
    """The same for the official binary file; images are made PNG."""
    with tarfile.open(source) as archive:
        members = {PurePosixPath(m.name).name: m for m in archive if m.isfile()}
        missing = [name for name in (*PARTS, LIST) if name not in members]
        if missing:
            raise ValueError(f'{source} lacks {missing[0]}; give cifar-10-binary.tar.gz (the "binary version")')
        classes = archive.extractfile(members[LIST]).read().decode().split()
        for part, split in PARTS.items():
            content = np.frombuffer(archive.extractfile(members[part]).read(), np.uint8)
            if len(content) % RECORD or not len(content):
                raise ValueError(f"{part} in {source} is not whole; download it again")
            for number, record in enumerate(content.reshape(-1, RECORD)):
                if record[0] >= len(classes):
                    raise ValueError(f"{part} in {source} has label {record[0]} of {len(classes)}; download it again")
                image = record[1:].reshape(3, SIDE, SIDE)[::-1].transpose(1, 2, 0)  # to (h, w, BGR)
                encoded = cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()
                yield split, classes[record[0]], f"{part.removesuffix('.bin')}_{number:05d}.png", encoded


def unpack(source, out):
    """Write ``source`` to the new folder ``out``; returns the number of images of each split.

    Raises ValueError when there is no such file, it is something else, or ``out`` is not empty."""
    source, out = Path(source), Path(os.path.abspath(out))
    if not source.is_file():
        raise ValueError(f"{source} does not exist; give the zip or the official tar.gz")
    check_new(out)
    if zipfile.is_zipfile(source):
        images = read_zip(source)
    elif tarfile.is_tarfile(source):
        images = read_official(source)
    else:
        raise ValueError(f"{source} is neither a zip nor a tar file; download it again")
    classes, counts = {split: set() for split in SPLITS}, dict.fromkeys(SPLITS, 0)
    with whole_folder(out) as folder:
        for split, name, file, content in images:
            target = folder / split / name
            if name not in classes[split]:
                target.mkdir(parents=True)
                classes[split].add(name)
            (target / file).write_bytes(content)
            counts[split] += 1
        if not all(counts.values()):
            raise ValueError(
                f"{source} holds {counts['train']} train and {counts['val']} val images in class "
                "folders; both are needed"
            )
        if classes["train"] != classes["val"]:
            other = sorted(classes["train"] ^ classes["val"])[0]
            raise ValueError(f"{source} has class {other} in one split only; every class must be in train and val")
    return counts


def main():
    parser = argparse.ArgumentParser(description="Unpack CIFAR-10 to class folders.")
    parser.add_argument("source", metavar="SRC", help="zip of class folders, or cifar-10-binary.tar.gz")
    parser.add_argument("out", metavar="OUT", help="folder to make")
    args = parser.parse_args()
    try:
        counts = unpack(args.source, args.out)
    except (ValueError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SystemExit(f"cifar10: {error}") from None
    print(f"{args.out}: {counts['train']} train and {counts['val']} val images")


if __name__ == "__main__":
    main()
