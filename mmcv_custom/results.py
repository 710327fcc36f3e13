"""Result rows: numbers together with command, commit, machine and versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import date
from importlib import metadata
from pathlib import Path

import torch

from .files import write_file

PACKAGES = ("torch", "torchvision", "timm", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "numpy")


def row(**fields: object) -> dict:
    """Return ``fields`` with command, commit, date, machine and versions.

    ``command`` may be among the fields; by default it is the command of this process.
    """
    command = fields.pop("command", None) or _command()
    return dict(
        **fields,
        command=command,
        commit=commit(),
        date=date.today().isoformat(),
        machine=machine(),
        versions=versions(),
    )


def _command() -> str:
    spec = sys.modules["__main__"].__spec__
    # A folder that is run has a spec, too, which does not say where it is.
    program = ["-m", spec.name] if spec and spec.name != "__main__" else [os.path.relpath(sys.argv[0])]
    return shlex.join(["python", *program, *sys.argv[1:]])


def commit() -> str | None:
    """Return the commit of the checkout, with ``+`` if tracked files have changed since; None outside a checkout.

    ``SOURCE_COMMIT`` in the environment takes precedence; it is meant for a copied tree without git.
    """
    if os.environ.get("SOURCE_COMMIT"):
        return os.environ["SOURCE_COMMIT"]
    here = Path(__file__).resolve().parents[1]
    try:
        name = _git(here, "rev-parse", "--short=12", "HEAD")
        return name + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *args: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True, text=True).stdout.strip()


def machine() -> dict:
    """Return processor, cores, threads and GPUs."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return dict(cpu=name, cores=os.cpu_count(), threads=torch.get_num_threads(), gpu=gpus)


def versions() -> dict:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write JSON, whole or not at all; numpy and torch scalars (as in mmseg's scores) become numbers."""
    write_file(path, json.dumps(content, indent=1, default=lambda scalar: scalar.item()) + "\n")
