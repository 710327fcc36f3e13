"""Make digit scenes: a small data set for detection, segmentation and classification, without a download.

Real handwritten digits (scikit-learn's ``load_digits``) are pasted at random size, angle and colour on crops of real
photographs (files in the installed scikit-learn and scikit-image). The same arguments and package versions give the
same bytes, and image i does not depend on how many images are made.

Train and val share neither digits nor backgrounds: every fifth sample of each class (counted within the class) and the
right 30 % of every photograph are used for val only.

    python tools/dataset_converters/digit_scenes.py data/digit_scenes
    python tools/dataset_converters/digit_scenes.py data/scenes_640 --train 400 --val 100 --size 640 --digit-scale 0.4

The second line makes larger scenes with more digits of about the same size in pixels.

    OUT/train/000000.jpg ...             the images (and val/)
    OUT/annotations/instances_train.json COCO format, exact visible masks as RLE (and instances_val.json)
    OUT/semantic/train/000000.png ...    uint8 label maps, 0 background, 1 + digit elsewhere (and val/)
    OUT/classes/train/<digit>/*.png      every digit sample once, alone on a 64 x 64 image (and val/)
    OUT/digit_scenes.json                arguments, photographs and package versions
"""

import argparse
import json
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_utils
from sklearn.datasets import load_digits
from whole_folder import check_replaceable, run, whole_folder

REVISION = 1  # increase it when the same arguments give other images than before
CARD = "digit_scenes.json"
SPLITS = ("train", "val")
VAL_EVERY = 5
VAL_STRIP = 0.3  # fraction at the right of each photograph that is used for val only
PHOTOS = dict(
    sklearn=("datasets/images", ("china.jpg", "flower.jpg")),
    skimage=(
        "data",
        (
            "astronaut.png",
            "coffee.png",
            "chelsea.png",
            "rocket.jpg",
            "motorcycle_left.png",
            "camera.png",
            "brick.png",
            "grass.png",
            "gravel.png",
        ),
    ),
)

DIGITS_PER_IMAGE = (2, 8)  # at digit scale 1, in proportion to 1 / scale
DIGIT_SIDE = (28 / 256, 110 / 256)  # longer side of an upright digit at digit scale 1, as a fraction of the image side
SMALLEST_SIDE = 20  # px; in smaller digits the class cannot be recognized
CROP_SIZE = 64  # px, of the classification crops
CROP_SIDE = (0.5, 0.7)  # like DIGIT_SIDE; at 0.7 the corners of a rotated square still fit
MAX_ANGLE = 30  # degrees; with larger angles 6 and 9 become ambiguous
MIN_VISIBLE = 0.6  # fraction of its area that must stay visible below digits pasted later
MIN_AREA = 80 / 256**2  # fraction of the image area at digit scale 1
TRIES = 40

STROKE = 0.45  # grey value (0..1) from which a pixel belongs to a pen stroke
MASTER = 10  # px per source pixel in the smooth enlargement that digits are drawn from
MARGIN = 2  # empty source pixels around a digit, so that a stroke at the 8 x 8 border ends softly
CONTRAST = 50  # minimum Lab distance between a digit and four fifths of the pixels around it


@dataclass
class Instance:
    """A pasted digit: its class 0..9 and its visible mask (H, W) bool."""

    digit: int
    mask: np.ndarray


# --- sources ----------------------------------------------------------------------------------------------------------


def digit_samples():
    """Return all digits as ``images`` (1797, 8, 8) float32 in 0..1 and ``labels`` (1797,) int."""
    bunch = load_digits()
    return bunch.images.astype(np.float32) / 16, bunch.target.astype(int)


def split_samples(labels):
    """Return split -> indices of its samples: every fifth sample of each class in val, the others in train."""
    # Counted within the class: the samples are in the order 0, 1, ... 9, so every fifth of all would be a 4 or a 9.
    is_val = np.zeros(len(labels), bool)
    for digit in range(10):
        is_val[np.flatnonzero(labels == digit)[VAL_EVERY - 1 :: VAL_EVERY]] = True
    return dict(train=np.flatnonzero(~is_val), val=np.flatnonzero(is_val))


def load_photos():
    """Return the photographs in the installed packages, name -> (H, W, 3) uint8 BGR.

    Raises:
        ValueError: there is none.
    """
    photos = {}
    for package, (folder, names) in PHOTOS.items():
        spec = util.find_spec(package)  # read by path, because skimage's loader may download
        if spec is None or spec.origin is None:
            continue
        for name in names:
            path = Path(spec.origin).parent / folder / name
            photo = cv2.imread(str(path)) if path.is_file() else None
            if photo is not None:
                photos[name] = photo
    if not photos:
        raise ValueError(
            "no background photograph found inside scikit-learn or scikit-image; "
            "reinstall them: pip install --force-reinstall scikit-learn scikit-image"
        )
    return photos


def split_photos(photos):
    """Return split -> list of (H, W, 3), views of the part of each photograph that the split may use."""
    regions = dict(train=[], val=[])
    for photo in photos.values():
        cut = round(photo.shape[1] * (1 - VAL_STRIP))
        regions["train"].append(photo[:, :cut])
        regions["val"].append(photo[:, cut:])
    return regions


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw_background(rng, regions, size):
    """Draw a random crop of a random region, (size, size, 3) float32 BGR in 0..1."""
    region = regions[rng.integers(len(regions))]
    longest = min(region.shape[:2])
    side = int(longest * rng.uniform(0.45, 1))
    top, left = (int(rng.integers(extent - side + 1)) for extent in region.shape[:2])
    crop = region[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    smooth = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=smooth).astype(np.float32) / 255
    if rng.random() < 0.5:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.6) * size / 256)
    # Contrast is only lowered, so that digits stand out from the background.
    mean = crop.mean((0, 1))
    crop = mean + (crop - mean) * rng.uniform(0.6, 1)
    return np.clip(crop * rng.uniform(0.6, 1.15), 0, 1).astype(np.float32)


def draw_digit(image, side, angle):
    """Draw one digit and return its opacity and ink, both (h, w) float32 in 0..1, tightly cropped.

    The mask of the digit is where the opacity is at least 0.5; ink is the darkness of the pen.

    Args:
        image: (8, 8) in 0..1.
        side: longer side of the upright digit, in px.
        angle: in degrees.
    """
    master = cv2.resize(np.pad(image, MARGIN), None, fx=MASTER, fy=MASTER, interpolation=cv2.INTER_CUBIC)
    master = cv2.GaussianBlur(master, (0, 0), 0.35 * MASTER)
    # Sharpen at the scale of a stroke: on the 8 x 8 grid the small holes of 8, 9 and 6 are half closed.
    master += 0.9 * (master - cv2.GaussianBlur(master, (0, 0), 1.2 * MASTER))
    rows, columns = (np.flatnonzero((master >= STROKE).any(axis)) for axis in (1, 0))
    centre = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    scale = side / (max(np.ptp(rows), np.ptp(columns)) + 1)
    frame = int(np.ceil(side * 1.5)) + 4
    affine = cv2.getRotationMatrix2D(centre, angle, scale)
    affine[:, 2] += (frame - 1) / 2 - np.array(centre)
    grey = cv2.warpAffine(master, affine, (frame, frame), flags=cv2.INTER_LINEAR)
    # The smooth grey value rises over about one source pixel; steepen it to an edge of one or two px at any size.
    opacity = np.clip((grey - STROKE) * scale * MASTER * 0.8 + 0.5, 0, 1)
    rows, columns = (np.flatnonzero((opacity > 0).any(axis)) for axis in (1, 0))
    tight = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return opacity[tight], np.clip(grey, 0, 1)[tight]


def draw_colour(rng, behind):
    """Draw a random colour (3,) float32 BGR in 0..1 that stands out from the pixels ``behind`` (h, w, 3)."""
    hue, saturation, value = rng.uniform(0, 360, 16), rng.uniform(0.1, 1, 16), rng.uniform(0.05, 1, 16)
    colours = np.stack([hue, saturation, value], -1).astype(np.float32)[None]
    colours = cv2.cvtColor(colours, cv2.COLOR_HSV2BGR)
    around = cv2.cvtColor(np.ascontiguousarray(behind[::3, ::3]), cv2.COLOR_BGR2Lab).reshape(-1, 1, 3)
    distance = np.linalg.norm(around - cv2.cvtColor(colours, cv2.COLOR_BGR2Lab), axis=-1)
    kept = np.quantile(distance, 0.2, axis=0)
    good = np.flatnonzero(kept >= CONTRAST)
    return colours[0, good[0] if len(good) else kept.argmax()]


def paste(rng, scene_image, opacity, ink, top, left):
    """Paste a digit into ``image`` (H, W, 3) in place, in a colour that is visible there."""
    height, width = opacity.shape
    behind = scene_image[top : top + height, left : left + width]
    colour = draw_colour(rng, behind)
    # Fainter ink is drawn darker, so that strokes stay readable where a blurred hole has closed.
    shade = np.clip(0.5 + (ink - STROKE), 0.5, 1)
    behind += opacity[..., None] * (colour * shade[..., None] - behind)


def stays_visible(instances, full_areas, mask, size):
    """Return whether every digit so far, and the new one with ``mask`` (H, W), stays visible enough to be labelled.

    ``size`` is the side, in px, of the image in which digits of this scale have ``DIGIT_SIDE``.
    """
    least = MIN_AREA * size**2
    if mask.sum() < least:
        return False
    left = [np.count_nonzero(instance.mask & ~mask) for instance in instances]
    return all(area >= max(least, MIN_VISIBLE * full) for area, full in zip(left, full_areas, strict=True))


def draw_scene(rng, regions, images, labels, samples, size, digit_scale=1):
    """Draw one image and return it, (size, size, 3) uint8 BGR, with its list of ``Instance``.

    Args:
        images, labels: digits (N, 8, 8) and their classes (N,).
        samples: indices of the digits that may be used.
        digit_scale: digits have the size of those in an image of ``digit_scale * size``; their number grows as they
            shrink.
    """
    scene_image = draw_background(rng, regions, size)
    instances, full_areas = [], []
    digit_size = digit_scale * size
    sides = max(SMALLEST_SIDE, DIGIT_SIDE[0] * digit_size), DIGIT_SIDE[1] * digit_size
    fewest, most = (round(number / digit_scale) for number in DIGITS_PER_IMAGE)
    for _ in range(rng.integers(fewest, most + 1)):
        sample = rng.choice(samples)
        for _ in range(TRIES):  # a digit without a place is skipped before it is pasted, so none is unlabelled
            opacity, ink = draw_digit(images[sample], rng.uniform(*sides), rng.uniform(-MAX_ANGLE, MAX_ANGLE))
            top, left = (int(rng.integers(size - extent + 1)) for extent in opacity.shape)
            mask = np.zeros((size, size), bool)
            mask[top : top + opacity.shape[0], left : left + opacity.shape[1]] = opacity >= 0.5
            if stays_visible(instances, full_areas, mask, digit_size):
                break
        else:
            continue
        paste(rng, scene_image, opacity, ink, top, left)
        for instance in instances:
            instance.mask &= ~mask
        instances.append(Instance(int(labels[sample]), mask))
        full_areas.append(np.count_nonzero(mask))
    return to_bytes(scene_image), instances


def draw_crop(rng, regions, image):
    """Draw one digit (8, 8) alone on a background, (64, 64, 3) uint8 BGR."""
    scene_image = draw_background(rng, regions, CROP_SIZE)
    opacity, ink = draw_digit(image, rng.uniform(*CROP_SIDE) * CROP_SIZE, rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    top, left = (int(rng.integers(CROP_SIZE - extent + 1)) for extent in opacity.shape)
    paste(rng, scene_image, opacity, ink, top, left)
    return to_bytes(scene_image)


def to_bytes(scene_image):
    """Return an image in 0..1 as uint8."""
    return np.round(np.clip(scene_image, 0, 1) * 255).astype(np.uint8)


# --- labels -----------------------------------------------------------------------------------------------------------


def annotation(instance):
    """Return the COCO fields of an instance: category, and RLE, area and xywh box of the visible mask."""
    rle = mask_utils.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
    return dict(
        category_id=instance.digit + 1,
        segmentation=dict(size=[int(side) for side in rle["size"]], counts=rle["counts"].decode("ascii")),
        bbox=mask_utils.toBbox(rle).tolist(),
        area=int(mask_utils.area(rle)),
        iscrowd=0,
    )


def label_map(instances, size):
    """Return semantic labels (size, size) uint8: 0 is background, 1 + digit where a digit is visible."""
    labels = np.zeros((size, size), np.uint8)
    for instance in instances:
        labels[instance.mask] = instance.digit + 1
    return labels


# --- files ------------------------------------------------------------------------------------------------------------


def write_image(path, scene_image):
    """Write an image; as JPEG without chroma subsampling, which would blur the edges of coloured digits."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(path.suffix, scene_image, options if path.suffix == ".jpg" else [])
    path.write_bytes(encoded.tobytes())  # unlike cv2.imwrite, this says why it fails


def write_scenes(folder, split, count, size, digit_scale, seed, regions, images, labels, samples):
    """Write images, label maps and COCO annotations of one split."""
    for kind in (folder / split, folder / "semantic" / split, folder / "annotations"):
        kind.mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, SPLITS.index(split), 0, index])
        scene_image, instances = draw_scene(rng, regions, images, labels, samples, size, digit_scale)
        write_image(folder / split / f"{index:06d}.jpg", scene_image)
        write_image(folder / "semantic" / split / f"{index:06d}.png", label_map(instances, size))
        entries.append(dict(id=index + 1, file_name=f"{index:06d}.jpg", width=size, height=size))
        for instance in instances:
            annotations.append(dict(id=len(annotations) + 1, image_id=index + 1, **annotation(instance)))
    content = dict(
        info=dict(description="digit scenes", version=str(REVISION), split=split, seed=seed),
        images=entries,
        annotations=annotations,
        categories=[dict(id=digit + 1, name=str(digit), supercategory="digit") for digit in range(10)],
    )
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def write_crops(folder, split, seed, regions, images, labels, samples):
    """Write every sample of a split once, to classes/<split>/<digit>/<sample index>.png."""
    for digit in range(10):
        (folder / "classes" / split / str(digit)).mkdir(parents=True)
    for sample in samples:
        rng = np.random.default_rng([seed, SPLITS.index(split), 1, int(sample)])
        scene_image = draw_crop(rng, regions, images[sample])
        write_image(folder / "classes" / split / str(labels[sample]) / f"{sample:04d}.png", scene_image)


def versions():
    """Return the versions of the packages that the bytes depend on."""
    found = dict(numpy=np.__version__, opencv=cv2.__version__)
    for name in ("scikit-learn", "scikit-image", "pycocotools"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def made_with(out):
    """Return the arguments of the digit scenes in the folder ``out``, or None if it holds something else."""
    try:
        arguments = json.loads((out / CARD).read_text())["arguments"]
        return dict(digit_scale=1.0, **arguments) if "digit_scale" not in arguments else arguments
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make(out, train=1000, val=200, size=256, seed=0, overwrite=False, digit_scale=1.0):
    """Make the data set in the folder ``out``; return False if it was already there, made with the same arguments.

    Args:
        train, val: number of images.
        size: side of an image, in px.
        digit_scale: size of the digits relative to the image, from 0.1 to 1; at 0.4, digits in images of 640 px have
            the size that they have in images of 256 px at 1, and there are 2.5 times as many.

    Raises:
        ValueError: an argument is out of range, or ``out`` holds something else and ``overwrite`` is not set.
    """
    for name, value, least in (("train", train, 1), ("val", val, 1), ("size", size, 64), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more")
    if not 0.1 <= digit_scale <= 1:
        raise ValueError(f"digit_scale is {digit_scale:g}; give a number from 0.1 to 1")
    out = Path(out).resolve()
    arguments = dict(revision=REVISION, train=train, val=val, size=size, digit_scale=float(digit_scale), seed=seed)
    known = None if overwrite else made_with(out)
    if known == arguments:
        return False
    if known:
        raise ValueError(
            f"{out} already holds digit scenes made with {known}; give another folder, or --overwrite to replace them"
        )
    check_replaceable(out, overwrite)
    images, labels = digit_samples()
    samples = split_samples(labels)
    photos = load_photos()
    regions = split_photos(photos)
    with whole_folder(out) as folder:
        for split, count in zip(SPLITS, (train, val), strict=True):
            write_scenes(folder, split, count, size, digit_scale, seed, regions[split], images, labels, samples[split])
            write_crops(folder, split, seed, regions[split], images, labels, samples[split])
        card = dict(arguments=arguments, photos=list(photos), versions=versions())
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return True


def main():
    parser = argparse.ArgumentParser(description="Make the digit scenes data set, without a download.")
    parser.add_argument("out", metavar="OUT", help="output folder")
    parser.add_argument("--train", type=int, default=1000, help="training images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="validation images (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of an image in px (default: %(default)s)")
    parser.add_argument(
        "--digit-scale",
        type=float,
        default=1.0,
        metavar="X",
        help="size of the digits relative to the image, 0.1 to 1; there are 1 / X times as many (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="make it again and replace everything in OUT")
    args = parser.parse_args()
    made = make(**vars(args))
    print(
        f"{args.out}: {args.train} train and {args.val} val images"
        + ("" if made else ", already made with the same arguments")
    )


if __name__ == "__main__":
    run(main)
