"""PyTorch's own files: a program of ``torch.export``, and a library that AOTInductor compiles from it.

Both are archives named .pt2; the metadata is the file ``token_pruning.json`` beside the program or, in a library, part
of it.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
import torchvision  # noqa: F401  files of detectors call its operators
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import ConfigError
from .graphs import tensors
from .metadata import KEY, as_strings, from_strings

NAME = f"{KEY}.json"
OPERATOR = "ms_deform_attn"


def write_torch_export(
    program: ExportedProgram, path: Path, metadata: Mapping[str, object], calibration: Iterable[Tensor]
) -> None:
    """Write a program that ``torch.export.load`` reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={NAME: json.dumps(metadata)})


def write_aoti(
    program: ExportedProgram, path: Path, metadata: Mapping[str, object], calibration: Iterable[Tensor]
) -> None:
    """Compile a library, which ``torch._inductor.aoti_load_package`` and a C++ program load.

    Raises:
        ConfigError: there is no C++ compiler.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise ConfigError("format aoti needs a C++ compiler; on Debian: apt-get install g++")
    # Without the asserts on sizes: for a detector whose size is free Inductor writes some of undeclared variables.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": as_strings(metadata), "scalar_asserts": False},
        )


def load_torch_export(path: Path) -> tuple[dict, object]:
    """Return the metadata of either file and how it is run."""
    try:
        names = zipfile.ZipFile(path).namelist()
    except zipfile.BadZipFile:
        raise ConfigError(f"{path} is no archive of torch.export: export the model again") from None
    if any("aotinductor" in name for name in names):
        return load_aoti(path)
    extra = {NAME: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch has no common base for what is wrong with an archive
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{path} is no archive of torch.export ({reason}): export the model again") from error
    return json.loads(extra[NAME] or "{}"), partial(_run, program.module())


def load_aoti(path: Path) -> tuple[dict, object]:
    """Return the metadata of a compiled library and how it is run."""
    from token_pruning_ops import build  # loads the operator that the library may call

    try:
        library = torch._inductor.aoti_load_package(str(path))
    except RuntimeError as error:
        if OPERATOR not in str(error):
            raise
        raise ConfigError(
            f"{path} calls this project's deformable attention, which is not compiled here: {build.hint()}"
        ) from error
    own = {name: text for name, text in library.get_metadata().items() if not name.startswith("AOTI_")}
    return from_strings(own), partial(_run, library)


@torch.no_grad()
def _run(program: object, images: Tensor) -> list[Tensor]:
    return tensors(program(images))
