"""Decode uploaded bytes into an image, in memory; sizes are checked before anything is decoded."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from mmcv_custom.data.misread_files import late_exif
from mmcv_custom.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # decoders of rare formats have had most vulnerabilities
MIN_SIDE = 16  # pixels of the shorter side
MAX_SIDE = 1600  # pixels of the longer side: larger images are reduced to it, which bounds time and response size
MAX_ASPECT = 12  # longer side / shorter side


def open_image(data: bytes, megapixels: float) -> Image.Image:
    """Return the image as RGB, upright, with a longer side of at most ``MAX_SIDE`` pixels.

    Raises:
        DataError: the bytes are no image, the image is damaged, or its size is out of bounds.
    """
    if not data:
        raise DataError("no image arrived: choose a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning about large images: our limit is lower
            image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except Image.DecompressionBombError:
        raise DataError(f"the image has too many pixels: at most {megapixels:g} megapixels are taken") from None
    except Exception:  # each decoder has its own exceptions
        raise DataError("this file is no image that can be read: give a JPEG, PNG, WebP or BMP") from None
    _check_size(*image.size, megapixels)
    try:
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # decodes a large JPEG at reduced resolution
        if image.format == "PNG":
            image.info.setdefault("exif", late_exif(io.BytesIO(data)))
        image = _as_rgb(ImageOps.exif_transpose(image))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"the image is cut short or damaged ({reason}): save it again") from None
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=2)
    return image


def _check_size(width: int, height: int, megapixels: float) -> None:
    if width * height > 1e6 * megapixels:
        raise DataError(
            f"the image has {width * height / 1e6:.1f} megapixels ({width} x {height}) and at most "
            f"{megapixels:g} are taken: make it smaller"
        )
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"the image has {width} x {height} pixels: sides must be at least {MIN_SIDE} long, and the "
            f"longer at most {MAX_ASPECT} times the shorter"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB; transparent pixels become white, and of 16 bits of grey the upper 8 are taken."""
    if image.mode.startswith("I"):  # Pillow cuts off what is above 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
