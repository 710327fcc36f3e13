"""Growth of memory: how it is measured, and that changing images leave nothing behind."""

import mmap
from types import SimpleNamespace
from unittest.mock import patch

import memory
import pytest
import torch
from growth import SIDES, growth, private_mb, sizes

from mmcv_custom.data.synthetic import scene
from mmcv_custom.errors import ConfigError
from mmcv_custom.inference import Predictor


def test_every_image_has_a_size_of_its_own():
    found = sizes(2000)
    assert len({*found}) == 2000 and found == sizes(2000) != sizes(2000, seed=1)
    assert all(SIDES[0] <= side < SIDES[1] for size in found for side in size)


def test_growth_is_the_slope_after_the_first_third():
    points = [(n, 500.0 if n <= 30 else 600 + 0.002 * n) for n in range(10, 100, 10)]
    assert growth(points) == pytest.approx(2)


def test_a_leak_is_seen():
    kept, args = [], SimpleNamespace(images=80, minutes=None)

    def leak(i):
        # Pages of their own: malloc would give out again what earlier tests have freed.
        pages = mmap.mmap(-1, 400_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages.write(bytes(400_000))
        kept.append((pages, torch.ones(10)))

    found = memory.measure(leak, args)
    assert found["growth_tensors"] == pytest.approx(1000, rel=0.1) and found["growth_mb"] > 100
    assert abs(memory.measure(lambda i: torch.zeros(10), args)["growth_tensors"]) < 100
    short = memory.measure(lambda i: None, SimpleNamespace(images=80, minutes=1e-9))
    assert 6 <= short["images"] // 2 < 10 and private_mb() > 50
    with pytest.raises(ConfigError, match="names no memory"):
        with patch("pathlib.Path.read_text", lambda path: "Name: zombie\n"):
            private_mb(1)


@pytest.mark.parametrize("model", memory.MODELS)
def test_images_of_known_sizes_leave_no_tensor(model):
    with pytest.warns(UserWarning, match="random weights"):
        predictor = Predictor(memory.ROOT / memory.MODELS[model])
    images = [scene(*(predictor.input_size() or size)) for size in sizes(2)]
    alive = []
    for _ in range(4):
        for image in images:
            predictor(image)
        alive.append(memory.live_tensors())
    assert alive[1] == alive[3]
