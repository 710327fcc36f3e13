"""The libraries: built if possible, optional, correct on every instruction set; info."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deformable import on

from token_pruning_ops import build, info, library

ROOT = Path(__file__).resolve().parents[2]
USE = """
import warnings, torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from token_pruning_ops import MSDeformAttn
    module = MSDeformAttn(24, 1, 3, 2)
    for _ in range(2):
        module(torch.randn(1, 5, 24), torch.rand(1, 5, 1, 2), torch.randn(1, 12, 24), [(3, 4)]).sum().backward()
print(*(w.message for w in caught if "deformable attention" in str(w.message)), sep="\\n")
"""


def python(*arguments, cwd=ROOT, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(cwd)} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path):
    """Copy the package without its libraries to a temporary folder."""
    shutil.copytree(ROOT / "ops", tmp_path / "ops", ignore=shutil.ignore_patterns("lib", "build", "__pycache__"))
    (tmp_path / "token_pruning_ops").symlink_to("ops")
    return tmp_path


@pytest.mark.skipif(os.environ.get("MSDA_BUILD") == "off", reason="MSDA_BUILD=off: nothing was to be compiled")
def test_the_cpu_library_is_there():
    assert "cpu" not in library.MISSING, f"{library.MISSING.get('cpu')}; {build.hint()}"


@pytest.mark.skipif(os.environ.get("MSDA_BUILD") in ("off", "cpu"), reason="MSDA_BUILD: CUDA was not to be compiled")
def test_the_cuda_library_is_there_where_a_matching_toolkit_is():
    try:
        build.find_toolkit()
    except build.BuildError as error:
        pytest.skip(f"the CUDA source cannot be compiled here: {error}")
    assert "cuda" not in library.MISSING, f"{library.MISSING.get('cuda')}; {build.hint()}"


def test_without_libraries_everything_works_with_one_warning(copy):
    output = python("-c", USE, cwd=copy).strip().splitlines()
    assert output == [
        "deformable attention on cpu runs in plain PyTorch, several times slower than compiled: it was not "
        "compiled; `sh ops/make.sh` builds it"
    ]
    assert "cpu   plain PyTorch: it was not compiled" in python("-m", "token_pruning_ops.info", cwd=copy)


def test_an_installed_package_names_its_own_script(copy, tmp_path_factory):
    site, elsewhere = copy / "site-packages", tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(copy / "ops", site / "token_pruning_ops")
    said = python("-m", "token_pruning_ops.info", cwd=elsewhere, PYTHONPATH=str(site))
    lines = [line for line in said.splitlines() if line.startswith(("cpu", "cuda"))]
    (script,) = {line.split("`")[1].removeprefix("sh ") for line in lines}
    assert (elsewhere / script).resolve() == site / "token_pruning_ops/make.sh"


def test_the_build_can_be_switched_off(copy):
    assert "nothing is compiled" in python("ops/build.py", cwd=copy, MSDA_BUILD="off")
    assert not (copy / "ops/lib").exists()


def test_without_a_compiler_one_sentence_says_so(copy):
    command = [sys.executable, "ops/build.py"]
    variables = os.environ | dict(MSDA_BUILD="auto", CXX="no-such-c++")
    done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 1
    assert "deformable attention for CPU and CUDA was not compiled, it runs in plain PyTorch: no C++" in done.stderr
    said = python("-m", "token_pruning_ops.info", cwd=copy)
    assert said.count("plain PyTorch: no C++ compiler (no-such-c++) was found; on Debian: apt-get install g++") == 1


def test_a_failed_build_is_reported_and_not_tried_again(copy):
    for source in (name for names in build.SOURCES.values() for name in names):
        (copy / "ops/src" / source).write_text("this is no C++\n")
    assert "compiling" in python("ops/build.py", cwd=copy, MSDA_BUILD="auto")
    output = python("-c", USE, cwd=copy)
    assert "error" in output and "error.log" in output
    assert python("ops/build.py", cwd=copy, MSDA_BUILD="auto") == ""
    assert not list(copy.glob("ops/lib/*.so")) and not list(copy.glob("ops/lib/*.part"))
    asked_for = subprocess.run([sys.executable, "ops/build.py"], cwd=copy, env=os.environ | {"MSDA_BUILD": "cpu"})
    assert asked_for.returncode == 1


def test_a_python_without_torch_deletes_nothing_and_is_no_last_word(copy):
    bare = copy / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)

    def make(*command):
        environment = os.environ | dict(PYTHON=str(bare), MSDA_BUILD="auto")
        return subprocess.run(command, cwd=copy / "ops", env=environment, capture_output=True, text=True)

    done = make("sh", "make.sh")
    assert done.returncode == 1 and "torch cannot be imported here" in done.stderr and "set PYTHON" in done.stderr
    assert "Traceback" not in done.stderr
    again = make(bare, "build.py")  # as an installation calls it: tried again, and no reason to fail
    assert again.returncode == 0 and again.stdout.count("CPU and CUDA") == 1
    names = [f"msda_{device}-{build._digest(device)}.so" for device in ("cpu", "cuda")]
    for name in (*names, "msda_cpu-000000000000.so"):
        (copy / "ops/lib" / name).write_bytes(b"works")
    done = make("sh", "make.sh")
    assert done.returncode == 1 and "CPU and CUDA was not compiled, the library that is there stays" in done.stderr
    assert {path.name for path in copy.glob("ops/lib/*.so")} == {*names, "msda_cpu-000000000000.so"}


@pytest.mark.parametrize("works", [True, False])
def test_older_libraries_go_only_when_a_new_one_is_there(tmp_path, monkeypatch, works):
    old, log = tmp_path / "msda_cpu-000000000000.so", tmp_path / "msda_cpu-111111111111.txt"
    for path in (old, log):
        path.touch()

    def compiled(device):
        if not works:
            raise build.BuildError("no compiler")
        build.library(device).write_bytes(b"new")

    monkeypatch.setattr(build, "LIBRARIES", tmp_path)
    monkeypatch.setattr(build, "build", compiled)
    monkeypatch.setenv("MSDA_BUILD", "cpu")
    monkeypatch.setattr(sys, "argv", ["build.py"])
    assert build.main() == (0 if works else 1)
    assert old.exists() is not works and build.library("cpu").exists() is works


def test_make_finds_a_python(copy):
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / ".venv/bin/python").write_text('#!/bin/sh\necho "own $*"\n')
    (copy / ".venv/bin/python").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    done = subprocess.run(["sh", "make.sh"], cwd=copy / "ops", env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("own ") and done.stdout.strip().endswith("/ops/build.py --again")


def test_a_library_of_other_sources_is_not_loaded(copy):
    (copy / "ops/lib").mkdir()
    (copy / "ops/lib/msda_cpu-000000000000.so").write_bytes(b"not even a library")
    assert "was built from other sources" in python("-m", "token_pruning_ops.info", cwd=copy)


def test_a_library_that_does_not_load_breaks_no_import(copy):
    (copy / "ops/lib").mkdir()
    name = python("-c", "from token_pruning_ops import build; print(build.library('cpu').name)", cwd=copy).strip()
    (copy / "ops/lib" / name).write_bytes(b"not even a library")
    assert "does not load" in python("-c", USE, cwd=copy)


@pytest.mark.parametrize("instructions", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_of_this_processor(instructions):
    """Run the same tests in a process that is restricted to the instruction set."""
    with on("cpu compiled"):
        pass
    offered = python(
        "-c",
        "import token_pruning_ops, torch\nprint(torch.ops.token_pruning.ms_deform_attn_cpu_instructions())",
        MSDA_ISA=instructions,
    ).strip()
    if offered != instructions:
        pytest.skip(f"this processor has no {instructions}")
    output = python(
        "-m",
        "pytest",
        "-q",
        "-k",
        "compiled",
        "tests/ops/test_deformable_attention.py",
        "-p",
        "no:cacheprovider",
        MSDA_ISA=instructions,
    )
    assert " passed" in output and "failed" not in output


def test_info_names_the_path_of_each_device():
    lines = info.lines()
    assert [line.split()[0] for line in lines] == ["cpu", "cuda", "mmcv"]
    with on("cpu compiled"):
        assert "instructions" in lines[0]
