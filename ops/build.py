"""Compile the operators into ops/lib: ``python ops/build.py``, as called by make setup, pip install and make.sh.

``MSDA_BUILD`` selects what is built: ``auto`` (default: the CPU library, and the CUDA library if a CUDA toolkit that
matches torch is found; neither needs a GPU), ``cpu``, ``cuda`` (both; a failure is an error) or ``off``. The variables
of torch's own builds apply, too: ``TORCH_CUDA_ARCH_LIST``, ``CUDA_HOME``, ``CXX``, ``MAX_JOBS``. If a library cannot be
built, the reason is stored beside the libraries for ``python -m token_pruning_ops.info``; without the libraries
everything runs in plain PyTorch. A library is replaced only by one that was compiled.

A library's name contains a digest of its sources, so that an outdated library is never loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import shlex
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
# The oldest torch whose stable interface has everything the sources use; the library runs on it and on newer ones.
TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"
# Not -ffast-math: with it GCC 12 makes the whole process flush denormals, and NaN tests are optimised away.
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
NO_TORCH = "torch cannot be imported here"  # the reason that another Python may not have


class BuildError(Exception):
    """A library cannot be built; the message is one sentence that says why."""


def hint() -> str:
    """Return how to build a library: the script beside this file, which an installed package has, too."""
    return f"`sh {shlex.quote(os.path.relpath(HERE / 'make.sh'))}` builds it"


def library(device: str) -> Path:
    """Return the path of the library of ``device`` for the current sources, built or not."""
    return LIBRARIES / f"msda_{device}-{_digest(device)}.so"


def build_log(device: str) -> Path:
    """Return the path of the file with the reason why ``library(device)`` could not be built."""
    return library(device).with_suffix(".txt")


def _digest(device: str) -> str:
    digest = hashlib.sha256()
    for path in sorted([*(HERE / "src").glob("*.*"), *(HERE / "src" / device).glob("*.*")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def build(device: str) -> None:
    """Compile one library and move it into place.

    Raises:
        BuildError: torch, a compiler or a matching CUDA toolkit is missing, or compilation failed.
    """
    # torch looks for ninja on the path; this finds the environment's own even if it is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns on machines without a GPU
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise BuildError(
            f"{NO_TORCH} ({error}); with make.sh, set PYTHON to a Python that has it, with pip, use "
            "--no-build-isolation"
        ) from error
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler.split()[0]):
        raise BuildError(f"no C++ compiler ({compiler}) was found; on Debian: apt-get install g++, or name one in CXX")
    if device == "cuda":
        cpp_extension.CUDA_HOME = find_toolkit()
        if not torch.cuda.is_available():  # otherwise torch compiles for the GPU it finds
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHES)
    folder = HERE / "build" / device
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # This also loads the library, as a first test.
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
        reason = next((line for line in lines[1:] if "error" in line.lower()), lines[0])
        raise BuildError(f"{reason.strip()} (full log in {log})") from error
    LIBRARIES.mkdir(exist_ok=True)
    part = library(device).with_suffix(".part")
    part.write_bytes((folder / f"msda_{device}.so").read_bytes())
    os.replace(part, library(device))


def find_toolkit() -> str:
    """Return the folder of the CUDA toolkit: CUDA_HOME, else the one that nvcc reports, else /usr/local/cuda.

    torch would take the folder above nvcc, which is wrong if nvcc is a wrapper script.

    Raises:
        BuildError: there is no toolkit, or it does not match torch.
    """
    import torch

    if torch.version.cuda is None:
        raise BuildError("this torch was built without CUDA")
    home, nvcc = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"), shutil.which("nvcc")
    if not home and nvcc:
        output = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
        found = re.search(r"_HERE_=(.+)", output)
        home = str(Path(found.group(1).strip()).parent) if found else None
    home = home or "/usr/local/cuda"
    compiler = Path(home, "bin", "nvcc")
    if not compiler.exists():
        raise BuildError(f"no CUDA toolkit (nvcc) was found; install CUDA {torch.version.cuda} or set CUDA_HOME")
    output = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", output)
    if not found or found.group(1) != torch.version.cuda.split(".")[0]:
        version = ".".join(found.groups()) if found else "unknown"
        raise BuildError(
            f"{compiler} is of CUDA {version} and torch of CUDA {torch.version.cuda}; the major versions must be equal"
        )
    return home


def _is_settled(device: str) -> bool:
    """Return whether a build failed for a reason that another try would meet again."""
    return build_log(device).exists() and not build_log(device).read_text().startswith(NO_TORCH)


def main() -> int:
    """Build the libraries that ``MSDA_BUILD`` asks for and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--again", action="store_true", help="rebuild existing libraries, and retry those that could not be built"
    )
    args = parser.parse_args()
    wanted = os.environ.get("MSDA_BUILD", "auto")
    if wanted not in ("auto", "cpu", "cuda", "off"):
        print(f"ops: MSDA_BUILD is {wanted!r}; it may be auto, cpu, cuda or off", file=sys.stderr)
        return 1
    if wanted == "off":
        print("ops: MSDA_BUILD=off, so nothing is compiled.")
        return 0
    devices = [
        device
        for device in (("cpu",) if wanted == "cpu" else ("cpu", "cuda"))
        if args.again or not (library(device).exists() or (wanted == "auto" and _is_settled(device)))
    ]
    if devices:
        print(f"ops: compiling deformable attention for {_named(devices)} ...", flush=True)
    status = 0
    failed: dict[tuple[bool, str], list[str]] = {}
    for device in devices:
        try:
            build(device)
        except Exception as error:  # a broken compiler must not break an installation that works without it
            reason = str(error) if isinstance(error, BuildError) else f"{type(error).__name__}: {error}"
            kept = library(device).exists()
            LIBRARIES.mkdir(exist_ok=True)
            if not kept:
                build_log(device).write_text(f"{reason}\n")
            failed.setdefault((kept, reason), []).append(device)
            asked_for = wanted != "auto" or args.again and (kept or device == "cpu")
            status = max(status, int(asked_for))
        else:
            for old in {*LIBRARIES.glob(f"msda_{device}-*")} - {library(device)}:
                old.unlink()
    for (kept, reason), without in failed.items():
        left = "the library that is there stays" if kept else "it runs in plain PyTorch"
        print(f"ops: deformable attention for {_named(without)} was not compiled, {left}: {reason}", file=sys.stderr)
    return status


def _named(devices: list[str]) -> str:
    return " and ".join(device.upper() for device in devices)


if __name__ == "__main__":
    sys.exit(main())
