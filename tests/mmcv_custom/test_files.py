"""Files are written whole or not at all."""

import errno
import os
import resource

import pytest

from mmcv_custom.errors import DiskFullError
from mmcv_custom.files import in_words, out_of_space, replacing, write_file
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


@pytest.mark.parametrize("old", [None, "old"])
def test_a_full_disk_is_said_in_one_sentence_and_the_old_file_stays(tmp_path, old):
    path = tmp_path / "a.json"
    if old:
        path.write_text(old)

    def fail(file):
        file.write(b"x" * 3000)
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=r"a.json cannot be written: no space is left.*\(more than 3.0 kB needed, "):
        write_file(path, fail)
    with pytest.raises(DiskFullError, match=r" free\), and the file" if old else r" free\): delete"), replacing(path):
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("unexpected pos 64 vs 0") from error  # as torch.save does
    assert os.listdir(tmp_path) == ["a.json"] * bool(old) and (not old or path.read_text() == old)


def test_the_size_of_a_text_is_known(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DiskFullError, match=r"\(2.5 kB needed, [0-9.]+ [kMGT]B free\)"):
            write_file(tmp_path / "a.txt", "x" * 2500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not os.listdir(tmp_path)


def test_other_errors_are_no_full_disk():
    assert not out_of_space(OSError(errno.EACCES, "no")) and not out_of_space(ValueError()) and not out_of_space(None)
    assert [in_words(n) for n in (0, 999, 1500, 2e6, 3e9, 4e12, 5e15)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.0 MB", "3.0 GB", "4.0 TB", "5000.0 TB"
    ]  # fmt: skip
