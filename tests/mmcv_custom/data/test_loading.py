"""Images of every kind are loaded as 8-bit BGR; unreadable ones raise an error of one sentence."""

import cv2
import numpy as np
import pytest

from mmcv_custom import DataError, LoadImageFromFile

GREY = np.arange(64, dtype=np.float64).reshape(8, 8) / 63


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grey.png", (GREY * 255).astype(np.uint8)),
        ("alpha.png", np.dstack([(GREY * 255).astype(np.uint8)] * 3 + [np.full((8, 8), 9, np.uint8)])),
        ("deep.png", (GREY * 65535).astype(np.uint16)),
        ("deep_colour.png", np.dstack([(GREY * 65535).astype(np.uint16)] * 3)),
    ],
)
def test_other_kinds_come_out_as_eight_bit_bgr(tmp_path, name, content):
    cv2.imwrite(str(tmp_path / name), content)
    image = LoadImageFromFile()({"img_path": str(tmp_path / name)})["img"]
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - (GREY * 255)[..., None]).max() <= 1


def test_missing_and_broken_files_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"image .*none\.png does not exist: check"):
        LoadImageFromFile()({"img_path": str(tmp_path / "none.png")})
    for content in (b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(DataError, match=r"image .*bad\.png (cannot be read|is empty or broken)"):
            LoadImageFromFile()({"img_path": str(tmp_path / "bad.png")})
