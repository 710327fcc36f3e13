"""Images that are given to the web page, as Pillow does not show them by itself."""

import io

import numpy as np
import pytest
from PIL import Image
from scripts import load_script

open_image = load_script("tools/web_demo/upload.py").open_image


def png(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_grey_of_16_bits_is_no_white(orientation):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    shown = open_image(png(Image.fromarray(grey.astype(np.uint16) * 257), exif=exif), 25)
    wanted = grey if orientation == 1 else np.rot90(grey, -1)
    assert shown.mode == "RGB" and np.array_equal(np.asarray(shown), np.repeat(wanted[..., None], 3, axis=2))


@pytest.mark.parametrize("frames", [1, 3])
def test_exif_behind_the_pixels_counts(frames):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    others = [Image.fromarray(image // 2)] * (frames - 1)
    exif = Image.Exif()
    exif[0x112] = 6
    data = png(Image.fromarray(image), exif=exif, **(dict(save_all=True, append_images=others) if others else {}))
    start = data.index(b"eXIf") - 4
    end = start + int.from_bytes(data[start : start + 4], "big") + 12
    data = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert np.array_equal(np.asarray(open_image(data, 25)), np.rot90(image, -1))
