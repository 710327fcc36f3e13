"""What MMEngine writes: whole or not at all."""

import errno
import os
import pathlib

import mmengine
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from PIL import Image

import mmcv_custom  # noqa: F401  registers the writers
from mmcv_custom.errors import DiskFullError


@pytest.mark.parametrize("name", ["a.pkl", "a.json"])
def test_a_dump_that_fails_leaves_the_old_file(tmp_path, name, monkeypatch):
    mmengine.dump([1], str(tmp_path / name))
    opened = pathlib.Path.open

    def fails(path, mode="r", *args, **kwargs):
        if "w" in mode:
            opened(path, mode).write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "open", fails)
    with pytest.raises(DiskFullError, match=f"{name} cannot be written"):
        mmengine.dump([2], str(tmp_path / name))
    assert mmengine.load(tmp_path / name) == [1] and os.listdir(tmp_path) == [name]


def test_images_and_configs_of_a_run(tmp_path):
    backend = VISBACKENDS.build(dict(type="LocalVisBackend", save_dir=str(tmp_path)))
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    backend.add_image("tokens", image, step=3)
    backend.add_config(Config(dict(a=dict(b=1))))
    with Image.open(tmp_path / "vis_image/tokens_3.png") as written:
        assert np.array_equal(np.asarray(written), image)
    assert Config.fromfile(tmp_path / "config.py").a.b == 1
    files = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert sorted(files) == ["config.py", "tokens_3.png"]
