"""Files that OpenCV reads otherwise than they are meant, and files that no reader takes."""

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

import mmpretrain_custom  # noqa: F401
from mmcv_custom import DataError, LoadImageFromFile
from mmcv_custom.data.image_files import loaded_size


def picture(height=5, width=7, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def loaded(path):
    results = LoadImageFromFile()(dict(img_path=str(path)))
    assert results["img_shape"] == results["ori_shape"] == results["img"].shape[:2] == loaded_size(path)[::-1]
    return results["img"][..., ::-1]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_transparent_pixels_keep_their_colours(tmp_path, suffix):
    image = picture(channels=4)
    image[:2, :, 3] = 0  # wholly transparent
    Image.fromarray(image).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(loaded(tmp_path / f"a.{suffix}"), image[..., :3])


def with_exif(path, orientation, frames, at_the_end):
    """Write a PNG file of these frames, whose EXIF stands before or behind the pixels."""
    exif = Image.Exif()
    exif[0x112] = orientation
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(path, exif=exif, **(dict(save_all=True, append_images=others) if others else {}))
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + int.from_bytes(data[start : start + 4], "big") + 12
    if at_the_end:
        path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
def test_png_files_are_turned_wherever_their_exif_is(tmp_path, frames, at_the_end):
    image = picture()
    with_exif(tmp_path / "a.png", 6, [image, image // 2, image // 3][:frames], at_the_end)
    assert np.array_equal(loaded(tmp_path / "a.png"), np.rot90(image, -1))


@pytest.mark.parametrize("values", [np.float32, np.int32])
def test_pixels_of_32_bits_are_one_sentence_for_every_toolbox(tmp_path, values):
    path = str(tmp_path / "a.tiff")
    Image.fromarray(picture()[..., 0].astype(values)).save(path)
    # mmpretrain has a registry of its own, in which MMCV's loader, whose errors have no sentence, was found.
    for loader in (LoadImageFromFile(), TRANSFORMS.build(dict(type="LoadImageFromFile"))):
        with pytest.raises(DataError, match="a.tiff cannot be read .its pixels are numbers of 32 bits .* 8 or 16 bits"):
            loader(dict(img_path=path))
