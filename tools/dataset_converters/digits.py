"""Write scikit-learn's handwritten digits as 32 x 32 images, one folder per class, without a download.

The 1797 digits of 8 x 8 pixels are enlarged smoothly to 24 x 24 and centred. The split is that of the digit scenes:
every fifth sample of each class is in val, which makes 1442 train and 355 val images.

    python tools/dataset_converters/digits.py data/digits

    OUT/train/<digit>/<sample>.png   and OUT/val/
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from digit_scenes import SPLITS, digit_samples, split_samples, write_image
from whole_folder import check_replaceable, holds, run, whole_folder

SIDE = 32
DIGIT = 24


def digit_image(image):
    """Return a digit (8, 8) in 0..1 as (32, 32) uint8, white on black."""
    margin = (SIDE - DIGIT) // 2
    large = cv2.resize(image, (DIGIT, DIGIT), interpolation=cv2.INTER_CUBIC)
    return np.pad(np.round(np.clip(large, 0, 1) * 255).astype(np.uint8), margin)


def make(out, overwrite=False):
    """Write the data set to the folder ``out``, unless it is there; return split -> number of images.

    Raises:
        ValueError: ``out`` holds other files and ``overwrite`` is not set.
    """
    out = Path(out).resolve()
    images, labels = digit_samples()
    samples = split_samples(labels)
    files = {f"{split}/{labels[i]}/{i:04d}.png": images[i] for split in SPLITS for i in samples[split]}
    if overwrite or not holds(out, files):
        check_replaceable(out, overwrite)
        with whole_folder(out) as folder:
            for name, image in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_image(folder / name, digit_image(image))
    return {split: len(samples[split]) for split in SPLITS}


def main():
    parser = argparse.ArgumentParser(description="Write scikit-learn's digits as images in class folders.")
    parser.add_argument("out", metavar="OUT", help="output folder")
    parser.add_argument("--overwrite", action="store_true", help="write again and replace everything in OUT")
    args = parser.parse_args()
    counts = make(**vars(args))
    print(f"{args.out}: {counts['train']} train and {counts['val']} val images")


if __name__ == "__main__":
    run(main)
