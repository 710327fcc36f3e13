"""Synthetic images: the size that suits a model, for timing, counting and export."""

import pytest

from mmcv_custom.cli.launch import build_model, read_config
from mmcv_custom.data.synthetic import default_shape


@pytest.mark.parametrize(
    "name, shape",
    [
        ("segvit/vit-nano-tome_segvit_digit-scenes-128", (128, 128)),  # a segmentor that sees images whole
        ("segvit/vit-nano_segvit_camvid-352", (352, 352)),
        ("deit/digits/deit-nano_digits", (32, 32)),
        ("quickstart/digits_vit-adapter-nano", (800, 1344)),
    ],
)
def test_the_size_suits_the_model(name, shape):
    assert default_shape(build_model(read_config(name), None)) == shape
