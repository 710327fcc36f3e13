"""Images of every kind of file, sound and broken, through all that reads images.

Shapes: arrays (h, w), (h, w, 2 to 4) as they are saved; what is expected of them is (h, w, 3) uint8 RGB.
"""

import functools
import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from fuzz.contract import Broken, Case
from PIL import Image
from scripts import ROOT, load_script

from mmcv_custom import Predictor
from mmcv_custom.cli.launch import run as run_main
from mmcv_custom.data.image_files import check_image, loaded_size
from mmcv_custom.data.loading import LoadImageFromFile

CONFIGS = {
    "detector": "configs/quickstart/digits_svit-adapter-nano.py",
    "segmentor": "configs/segmentation/vit-nano-tome_linear_camvid-352.py",
    "classifier": "configs/cropr/cifar10/deit-nano-cropr_cifar10.py",
}
# Mode -> suffixes of the files that keep it; "RGB16" is no mode of Pillow's.
WRITTEN = {
    "1": ("png", "tiff", "bmp"),
    "L": ("png", "tiff", "bmp", "jpg", "webp", "pgm"),
    "LA": ("png",),
    "P": ("png", "gif", "bmp", "tiff"),
    "P transparent": ("png", "gif"),
    "RGB": ("png", "tiff", "bmp", "jpg", "webp", "ppm", "jp2"),
    "RGBA": ("png", "tiff", "webp"),
    "CMYK": ("jpg", "tiff"),
    "YCbCr": ("jpg", "tiff"),
    "LAB": ("tiff",),
    "I": ("tiff",),
    "I;16": ("png", "tiff"),
    "F": ("tiff",),
    "RGB16": ("png", "tiff"),
    "RGBA16": ("png", "tiff"),
    "animated": ("gif", "webp", "png"),
}
INEXACT = ("CMYK", "YCbCr", "LAB")
LOSSY = ("jpg", "webp", "jp2", "gif")
SIDES = (1, 2, 3, 7, 16, 31, 48, 64, 65, 100)
EXTREME = ((1, 1), (40, 10000), (10000, 40), (1, 500), (700, 1), (2, 1500))  # (h, w)
BROKEN = ("truncated", "flipped bytes", "empty", "text", "folder", "header only", "zeros", "missing", "other bytes")


@functools.cache
def predictor(task: str) -> Predictor:
    """Return a small model of a task with random weights."""
    return Predictor(ROOT / CONFIGS[task])


def picture(case: Case, mode: str) -> tuple[Image.Image | np.ndarray, np.ndarray, dict]:
    """Return an image of a mode, what it is as RGB, and how it is to be saved.

    It is smooth, so that lossy formats and half-resolution colours change it little.
    """
    h, w = case.choose(*EXTREME) if case.random.random() < 0.15 else (case.choose(*SIDES), case.choose(*SIDES))
    y, x = np.mgrid[:h, :w] / np.array([max(h - 1, 1), max(w - 1, 1)])[:, None, None]
    colour = case.numbers.uniform(0, 255, (4, 3))
    smooth = (colour[0] * (1 - x)[..., None] + colour[1] * x[..., None]) * (1 - y)[..., None]
    rgb = (smooth + colour[2] * y[..., None]).round().clip(0, 255).astype(np.uint8)
    grey = rgb[..., 1]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    alpha = case.numbers.integers(0, 256, (h, w), np.uint8)
    if mode == "1":
        return Image.fromarray(grey > 100), np.repeat(((grey > 100) * np.uint8(255))[..., None], 3, axis=2), {}
    if mode == "L":
        return Image.fromarray(grey), as_rgb, {}
    if mode == "LA":
        return Image.fromarray(np.stack([grey, alpha], axis=2), "LA"), as_rgb, {}
    if mode.startswith("P"):
        palette = case.numbers.integers(0, 256, (256, 3), np.uint8)
        image = Image.fromarray(grey % 200)
        image.putpalette(palette.tobytes())
        options = {"transparency": int(grey[0, 0] % 200)} if mode == "P transparent" else {}
        return image, palette[grey % 200], options
    if mode == "RGBA":
        return Image.fromarray(np.dstack([rgb, alpha])), rgb, {}
    if mode in ("CMYK", "YCbCr", "LAB"):
        if mode == "LAB":
            rgb = rgb // 4 + 96  # readers differ in their white, and in what they do with colours out of reach
            lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
            image = Image.frombytes("LAB", (w, h), (lab ^ np.array([0, 128, 128], np.uint8)).tobytes())
        else:
            image = Image.fromarray(rgb).convert(mode)
        return image, np.asarray(image.convert("RGB")) if mode != "LAB" else rgb, {}
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257), as_rgb, {}
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32)), as_rgb, {}
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32)), as_rgb, {}
    if mode == "RGB16":
        return rgb.astype(np.uint16) * 257, rgb, {}
    if mode == "RGBA16":
        return np.dstack([rgb, alpha]).astype(np.uint16) * 257, rgb, {}
    if mode == "animated":
        others = [Image.fromarray(255 - rgb), Image.fromarray(rgb // 2)]
        return Image.fromarray(rgb), rgb, dict(save_all=True, append_images=others, lossless=True, loop=0)
    return Image.fromarray(rgb), rgb, {}


def turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as EXIF's ``orientation`` says that they are to be shown."""
    rgb = rgb.swapaxes(0, 1) if orientation >= 5 else rgb
    rgb = rgb[:, ::-1] if orientation in (2, 3, 6, 7) else rgb
    return rgb[::-1] if orientation in (3, 4, 7, 8) else rgb


def encoded(case: Case, image, options: dict, suffix: str, orientation: int | None) -> bytes:
    """Return the bytes of a file."""
    if isinstance(image, np.ndarray):
        order = [2, 1, 0, 3][: image.shape[2]]
        return cv2.imencode(f".{suffix}", image[..., order])[1].tobytes()
    if orientation:
        exif = Image.Exif()
        exif[0x112] = orientation
        options = dict(options, exif=exif)
    kind = dict(jpg="JPEG", jp2="JPEG2000", pgm="PPM").get(suffix, suffix.upper())
    if suffix == "jpg":
        options = dict(options, quality=98, subsampling=0, progressive=case.choose(False, True))
    if suffix == "webp":
        options = dict(options, lossless=True, exact=True)
    if suffix == "jp2":
        options = dict(options, irreversible=False)
    file = io.BytesIO()
    image.save(file, kind, **options)
    data = file.getvalue()
    if suffix == "png" and orientation and case.choose(False, True):  # EXIF may stand behind the pixels
        start = data.index(b"eXIf") - 4
        end = start + int.from_bytes(data[start : start + 4], "big") + 12
        data = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    return data


def broken(case: Case, data: bytes, how: str) -> bytes | None:
    """Return the bytes of a file that is broken; None where it is no file at all."""
    if how == "truncated":
        return data[: case.random.randrange(1, len(data))]
    if how == "flipped bytes":
        changed = bytearray(data)
        for _ in range(case.choose(1, 3, 20)):
            changed[case.random.randrange(len(changed))] ^= 1 << case.random.randrange(8)
        return bytes(changed)
    others = {"empty": b"", "text": b"this is no image\n" * case.choose(1, 40), "header only": data[:24]}
    others |= {"zeros": bytes(len(data)), "other bytes": case.random.randbytes(300)}
    return others.get(how)


def write(case: Case) -> tuple[Path, np.ndarray | None, bool]:
    """Write a file; return its path, what it shows where it is sound, and whether that holds to a few levels only."""
    mode = case.choose(*WRITTEN)
    image, rgb, options = picture(case, mode)
    suffix = case.choose(*WRITTEN[mode])
    orientation = case.choose(None, *range(1, 9)) if suffix in ("jpg", "png", "webp") and mode[-2:] != "16" else None
    data = encoded(case, image, options, suffix, orientation)
    if orientation and suffix in ("jpg", "png"):
        rgb = turned(rgb, orientation)
    how = case.choose(*BROKEN) if case.random.random() < 0.35 else "sound"
    name = "a." + (case.choose("jpg", "png", "bmp", "tif") if case.random.random() < 0.15 else suffix)
    path = case.folder / name
    case.given = f"{how} {mode} {suffix} as {name}, {rgb.shape[1]} x {rgb.shape[0]}, EXIF {orientation}"
    content = data if how == "sound" else broken(case, data, how)
    if how == "folder":
        path.mkdir()
    elif how != "missing":
        path.write_bytes(content)
    # Of numbers without a known range there is no right grey; readers paint what is transparent in a GIF differently.
    known = how == "sound" and mode not in ("I", "F") and (mode, suffix) != ("P transparent", "gif")
    return path, rgb if known else None, suffix in LOSSY or mode in INEXACT


def equal(found: np.ndarray, wanted: np.ndarray, lossy: bool, what: str) -> None:
    """Raise Broken where two images (h, w, 3) differ."""
    if found.shape != wanted.shape or found.dtype != np.uint8:
        raise Broken(f"{what} gives {found.shape} {found.dtype} and {wanted.shape} is right")
    off = np.abs(found.astype(int) - wanted.astype(int))
    if off.max() > (100 if lossy else 1) or off.mean() > (30 if lossy else 1):
        y, x, _ = np.unravel_index(off.argmax(), off.shape)
        raise Broken(
            f"{what} gives {found[y, x]} at {x}, {y} and {wanted[y, x]} is right (mean error {off.mean():.1f})"
        )


def run(case: Case) -> None:
    """Read one file in all ways."""
    path, rgb, lossy = write(case)
    size, read = case.allow(loaded_size, path, names=(str(path),)), None
    case.allow(check_image, str(path), names=(str(path),))
    loaded = case.allow(LoadImageFromFile().transform, dict(img_path=str(path)), names=(str(path),))
    if loaded is not None and size is not None and loaded["img"].shape[1::-1] != size:
        raise Broken(f"loaded_size says {size} and the loader gives {loaded['img'].shape[1::-1]}")
    if rgb is not None:
        check_image(str(path))
        equal(LoadImageFromFile().transform(dict(img_path=str(path)))["img"][..., ::-1], rgb, lossy, "the loader")
    task = case.choose(*CONFIGS)
    model = predictor(task)
    if case.random.random() < 0.3:
        read = case.allow(model, path, names=(str(path),))
    else:
        read = case.allow(model._prepare, path, names=(str(path),))
    if rgb is not None and read is not None:
        equal(read.image, rgb, lossy, f"the {task}'s predictor")
    upload(case, path, rgb, lossy)
    give_object(case, predictor("detector"))  # takes images of any size


def give_object(case: Case, model: Predictor) -> None:
    """Give the predictor an image in memory: of Pillow, an array or a tensor, of any kind."""
    mode = case.choose(*WRITTEN, "HSV", "PA", "numbers", "tensor")
    if mode in ("numbers", "tensor"):
        shape = case.choose((3, 9, 9), (9, 9, 3), (9, 9), (0, 9, 3), (2, 9, 9, 3), (9, 9, 4), (9,), ())
        image = (case.numbers.uniform(0, 255, shape)).astype(case.choose("uint8", "float32", "int64", "bool", "object"))
        image = torch.from_numpy(image) if mode == "tensor" and image.dtype != object else image
    elif mode in ("HSV", "PA"):
        image = Image.new(mode, (9, 8), 3 if mode == "HSV" else None)
    else:
        image, rgb, _ = picture(case, mode)
    case.given += f"; in memory {mode} {getattr(image, 'shape', None)}"
    read = case.allow(model._prepare, image)
    if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"):
        if read is None:
            raise Broken(f"an image of mode {mode} is refused")
        equal(read.image, rgb, mode in INEXACT, "the predictor, of an image in memory")


def upload(case: Case, path: Path, rgb: np.ndarray | None, lossy: bool) -> None:
    """Give the bytes of a file to the web page."""
    if not path.is_file():
        return
    page = web_page()
    shown = case.allow(page.open_image, path.read_bytes(), case.choose(0.1, 25))
    if shown is None:
        return
    if shown.mode != "RGB" or max(shown.size) > page.MAX_SIDE:
        raise Broken(f"the web page takes it as {shown.mode} of {shown.size}")
    with Image.open(path) as image:
        transparent, turnable = image.has_transparency_data, image.format in ("JPEG", "PNG")
    if rgb is not None and not transparent and max(rgb.shape) <= page.MAX_SIDE and turnable:
        equal(np.asarray(shown), rgb, lossy, "the web page")


@functools.cache
def web_page():
    """Return the module that decodes what the web page is given."""
    return load_script("tools/web_demo/upload.py")


def run_commands(case: Case) -> None:
    """Run image_demo on a file, or on a folder with sound and broken ones."""
    names = []
    for number in range(case.choose(1, 3)):
        inner = Case(case.number, f"{case.random.random()}", number, case.folder / f"in{number}")
        inner.folder.mkdir()
        path, _, _ = write(inner)
        names.append(inner.given)
        if path.exists():
            (case.folder / "in").mkdir(exist_ok=True)
            path.rename(case.folder / "in" / f"{number}{path.name}")
    case.given = "; ".join(names)
    source, out = case.folder / "in", case.folder / "out"
    if len(names) == 1 and source.is_dir():
        source = next(source.iterdir())
    demo = load_script("image_demo.py")
    demo.load_predictor = lambda args: predictor("classifier" if len(names) == 1 else "detector")
    before = sys.argv
    sys.argv = ["image_demo.py", str(source), "config.py", "none", "--out", str(out)]
    try:
        run_main(demo.main)
    except SystemExit as end:
        said = sys.stderr.getvalue().strip().splitlines()
        if end.code != 2 or not said or not said[-1].startswith("image_demo.py: "):
            raise Broken(f"image_demo ends with status {end.code} and says {said[-3:]}") from None
        if "Traceback" in sys.stderr.getvalue():
            raise Broken(sys.stderr.getvalue()) from None
    finally:
        sys.argv = before
    if (out / "results.json").exists():
        content = json.loads((out / "results.json").read_text())
        if len(content["results"]) != len([*out.glob("*.jpg")]):
            raise Broken("results.json and the drawn images differ in number")
