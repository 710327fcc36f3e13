"""Compile the operators into ops/lib: ``python ops/build.py``, what ``make setup``, ``pip install`` and make.sh call.

``MSDA_BUILD`` says what: ``auto`` (default: the CPU library, and the CUDA library where a CUDA toolkit that matches
torch is found; neither needs a GPU), ``cpu``, ``cuda`` (both, and an error if that fails), ``off``. What torch reads is
read here too: ``TORCH_CUDA_ARCH_LIST``, ``CUDA_HOME``, ``CXX``, ``MAX_JOBS``. A build that is not possible ends in one
sentence, kept beside the libraries for ``python -m token_pruning_ops.info``; everything works without them, in plain
PyTorch.

A library carries a digest of its sources in its name, so that one of other sources is never loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARIES = HERE / "lib"
SOURCES = {
    "cpu": ["schema.cpp", "cpu/library.cpp", "cpu/baseline.cpp", "cpu/avx2.cpp", "cpu/avx512.cpp"],
    "cuda": ["cuda/library.cu"],
}
# The oldest torch whose stable interface has all that the sources use; the library runs on that one and on newer ones.
TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"
# Not -ffast-math: GCC 12 would make the whole process flush denormals, and NaN tests would go.
CXX_FLAGS = [
    TARGET,
    "-O3",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wno-psabi",
    "-fvisibility=hidden",
    "-g0",
    f"-fmacro-prefix-map={HERE}/=ops/",
]
CUDA_FLAGS = [
    TARGET,
    "-O3",
    "-std=c++17",
    "-DUSE_CUDA",
    "-Xcompiler",
    f"-fvisibility=hidden,-fmacro-prefix-map={HERE}/=ops/",
]
DEFAULT_ARCHES = "8.0;9.0+PTX"
HINT = "`sh ops/make.sh` builds it"


class BuildError(Exception):
    """A library cannot be built; the message is one sentence."""


def library(device: str) -> Path:
    """Where the library of ``device`` made from the sources as they are now stands, built or not."""
    return LIBRARIES / f"msda_{device}-{_digest(device)}.so"


def build_log(device: str) -> Path:
    """The file that says why ``library(device)`` was not built."""
    return library(device).with_suffix(".txt")


def _digest(device: str) -> str:
    found = hashlib.sha256()
    for path in sorted([*(HERE / "src").glob("*.*"), *(HERE / "src" / device).glob("*.*")]):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:12]


def build(device: str) -> None:
    """Compile one library and move it into place.

    Raises:
        BuildError: there is no torch, compiler or matching CUDA toolkit, or the compiler failed.
    """
    # torch looks for ninja on the path; an environment's own is found even if it is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it remarks on machines without a GPU
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise BuildError(f"torch cannot be imported here ({error}); with pip, use --no-build-isolation") from error
    if device == "cuda":
        cpp_extension.CUDA_HOME = find_toolkit()
        if not torch.cuda.is_available():  # else torch takes what the GPU there needs
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHES)
    folder = HERE / "build" / device
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Loading it here, too, is a first test.
        cpp_extension.load(
            f"msda_{device}",
            [str(HERE / "src" / name) for name in SOURCES[device]],
            extra_cflags=CXX_FLAGS,
            extra_cuda_cflags=CUDA_FLAGS,
            build_directory=str(folder),
            with_cuda=device == "cuda",
            extra_ldflags=["-Wl,--as-needed"] if sys.platform == "linux" else [],
            is_python_module=False,
        )
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        log = folder / "error.log"
        log.write_text(str(error))
        lines = str(error).splitlines()
        said = next((line for line in lines[1:] if "error" in line.lower()), lines[0])
        raise BuildError(f"{said.strip()} (all of it in {log})") from error
    LIBRARIES.mkdir(exist_ok=True)
    part = library(device).with_suffix(".part")
    part.write_bytes((folder / f"msda_{device}.so").read_bytes())
    os.replace(part, library(device))


def find_toolkit() -> str:
    """The folder of the CUDA toolkit to compile with: CUDA_HOME, else what nvcc itself names (torch takes the folder
    above it, which is wrong where nvcc is a wrapper), else /usr/local/cuda.

    Raises:
        BuildError: there is none, or it does not match torch.
    """
    import torch

    if torch.version.cuda is None:
        raise BuildError("this torch was built without CUDA")
    home, nvcc = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"), shutil.which("nvcc")
    if not home and nvcc:
        said = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
        found = re.search(r"_HERE_=(.+)", said)
        home = str(Path(found.group(1).strip()).parent) if found else None
    home = home or "/usr/local/cuda"
    nvcc = Path(home, "bin", "nvcc")
    if not nvcc.exists():
        raise BuildError(f"no CUDA toolkit (nvcc) was found; install CUDA {torch.version.cuda} or set CUDA_HOME")
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", said)
    if not found or found.group(1) != torch.version.cuda.split(".")[0]:
        version = ".".join(found.groups()) if found else "unknown"
        raise BuildError(
            f"{nvcc} is of CUDA {version} and torch of CUDA {torch.version.cuda}; their first numbers must be equal"
        )
    return home


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="also what is there, and what could not be built before")
    args = parser.parse_args()
    wanted = os.environ.get("MSDA_BUILD", "auto")
    if wanted not in ("auto", "cpu", "cuda", "off"):
        print(f"ops: MSDA_BUILD is {wanted!r}; it may be auto, cpu, cuda or off", file=sys.stderr)
        return 1
    if wanted == "off":
        print("ops: MSDA_BUILD=off, so nothing is compiled.")
        return 0
    status = 0
    for device in ("cpu",) if wanted == "cpu" else ("cpu", "cuda"):
        if not args.again and (library(device).exists() or (build_log(device).exists() and wanted == "auto")):
            continue
        print(f"ops: compiling deformable attention for {device.upper()} ...", flush=True)
        for old in LIBRARIES.glob(f"msda_{device}-*"):
            old.unlink()
        try:
            build(device)
        except Exception as error:  # a broken tool must not break an installation that works without it
            if not isinstance(error, BuildError):
                error = f"{type(error).__name__}: {error}"
            LIBRARIES.mkdir(exist_ok=True)
            build_log(device).write_text(f"{error}\n")
            print(f"ops: no compiled deformable attention for {device.upper()}: {error}", file=sys.stderr)
            status = int(wanted != "auto")
    return status


if __name__ == "__main__":
    sys.exit(main())
