"""Files are written whole or not at all."""

import os

import pytest

from mmcv_custom.files import replacing, write_file
from mmcv_custom.results import write_json


def test_text_bytes_and_writers(tmp_path):
    for content in ("gr\u00fcn", "gr\u00fcn".encode(), lambda file: file.write("gr\u00fcn".encode())):
        write_file(tmp_path / "new" / "a.txt", content)
        assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "gr\u00fcn"
        assert os.listdir(tmp_path / "new") == ["a.txt"]
    write_json(tmp_path / "a.json", [1])
    assert (tmp_path / "a.json").read_text() == "[\n 1\n]\n"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(path, fail)
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_the_other_name_has_the_same_ending_and_the_same_folder(tmp_path):
    with replacing(tmp_path / "a.mp4") as part:
        assert part.suffix == ".mp4" and part.parent == tmp_path
        part.touch()
