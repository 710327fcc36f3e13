"""From uploaded bytes to an image, in memory and within limits that are checked before anything is decoded."""

import io
import warnings

from PIL import Image, ImageOps

from mmcv_custom.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # decoders of rarer formats have had the most holes
LEAST = 16  # pixels of the shorter side
LONGEST = 1600  # pixels: larger images are reduced to this, which keeps time and answers small
SHAPE = 12  # the longer side as a multiple of the shorter


def open_image(data: bytes, megapixels: float) -> Image.Image:
    """The image as RGB, upright, at most ``LONGEST`` pixels long.

    Raises:
        DataError: no image, a damaged one, or one whose size is out of bounds.
    """
    if not data:
        raise DataError("no image arrived: choose a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own word on large images: our limit is lower
            image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except Image.DecompressionBombError:
        raise DataError(f"the image has too many pixels: at most {megapixels:g} megapixels are taken") from None
    except Exception:  # each decoder has its own
        raise DataError("this file is no image that can be read: give a JPEG, PNG, WebP or BMP") from None
    _check_size(*image.size, megapixels)
    try:
        image.draft("RGB", (LONGEST, LONGEST))  # a JPEG is decoded at a fraction of its size, where that is enough
        image = ImageOps.exif_transpose(_as_rgb(image))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"the image is cut short or damaged ({reason}): save it again") from None
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS, reducing_gap=2)
    return image


def _check_size(width: int, height: int, megapixels: float) -> None:
    if width * height > 1e6 * megapixels:
        raise DataError(
            f"the image has {width * height / 1e6:.1f} megapixels ({width} x {height}) and at most "
            f"{megapixels:g} are taken: make it smaller"
        )
    if min(width, height) < LEAST or max(width, height) > SHAPE * min(width, height):
        raise DataError(
            f"the image has {width} x {height} pixels: sides must be at least {LEAST} long, and the "
            f"longer at most {SHAPE} times the shorter"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    """What is transparent becomes white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
