"""Output folders of the converters: whole or not at all, also after a kill and on a full disk."""

import errno
import os
import signal
import sys

import pytest
from whole_folder import run, whole_folder

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and locks")


def die_in(out, at):
    """Make ``out`` in a fork that is killed: in the body, or between the two renames that replace a folder."""
    pid = os.fork()
    if pid == 0:
        with whole_folder(out) as folder:
            (folder / "new").write_text("half")
            if at == "body":
                os.kill(os.getpid(), signal.SIGKILL)
            os.rename(out, folder.with_suffix(".old"))
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("at", ["body", "renames"])
def test_what_a_kill_has_left_is_removed_and_an_old_folder_comes_back(tmp_path, at):
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        (folder / "old").write_text("whole")
    die_in(out, at)
    assert len(os.listdir(tmp_path)) == 2 and out.exists() == (at == "body")
    with pytest.raises(RuntimeError, match="no"), whole_folder(out):
        raise RuntimeError("no")
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == ["old"]
    die_in(out, at)
    with whole_folder(out) as folder:
        (folder / "new").write_text("whole")
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == ["new"]


def test_a_run_beside_this_one_keeps_its_folder(tmp_path):
    with whole_folder(tmp_path / "out") as first:
        with whole_folder(tmp_path / "out") as second:
            assert first.is_dir() and second.is_dir() and first != second
        assert first.is_dir()


def test_a_full_disk_is_one_sentence(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"out cannot be written: .*\(more than 2.0 kB needed, .* free\): delete"):
        with whole_folder(out) as folder:
            (folder / "a").write_bytes(b"x" * 2000)
            raise OSError(errno.ENOSPC, "No space left on device", "b")
    with pytest.raises(PermissionError), whole_folder(out):
        raise PermissionError(errno.EACCES, "no")
    assert not os.listdir(tmp_path)


def test_ctrl_c_is_one_word(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run(main)
    said = capsys.readouterr().err
    assert end.value.code == 128 + signal.SIGINT and said.endswith(": interrupted\n") and said.count("\n") == 1
