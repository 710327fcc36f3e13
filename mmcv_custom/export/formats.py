"""The formats of exported files: how a traced program is written, and how a file is run.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import ConfigError, DataError

PRECISIONS = ("fp32", "fp16", "int8")
Runner = Callable[[Tensor], list[Tensor]]


class Writer(Protocol):
    """Writes a program.

    Args:
        program: of ``trace.traced``.
        path: of the file, whose folder holds nothing else.
        metadata: see ``metadata.describe``.
        calibration: batches of inputs for int8, else ().
    """

    def __call__(
        self, program: ExportedProgram, path: Path, metadata: Mapping[str, object], calibration: Iterable[Tensor]
    ) -> None:
        """Write the file."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: of its files.
        packages: modules that writing needs, besides torch.
        runtime: modules that running needs, besides torch.
        module: "module" of this package with functions ``write_NAME`` and ``load_NAME``.
        precisions: those that its own tools make.
        other_packages: precision -> further modules that it needs.
        compiled: it can call operators that this project compiles.
    """

    name: str
    suffix: str
    module: str
    packages: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)
    other_packages: Mapping[str, tuple[str, ...]] | None = None
    compiled: bool = False

    def write(
        self, program: ExportedProgram, path: Path, metadata: Mapping[str, object], calibration: Iterable[Tensor] = ()
    ) -> None:
        """Write ``program``, see ``Writer``."""
        self._function("write")(program, path, metadata, calibration)

    def load(self, path: Path) -> tuple[dict, Runner]:
        """Return the metadata of a file and a function that runs it on images.

        Raises:
            ConfigError: a package is missing, or the file is none of this project's.
        """
        _need(self.runtime, f"{path} is run by")
        return self._function("load")(path)

    def check(self, precision: str) -> None:
        """Raise ConfigError if a package is missing, or the format has no tool for ``precision``."""
        if precision not in PRECISIONS:
            raise ConfigError(f"precision is {precision!r}: choose one of {', '.join(PRECISIONS)}")
        if precision not in self.precisions:
            able = [one.name for one in FORMATS.values() if precision in one.precisions]
            raise ConfigError(f"format {self.name} has no tool for {precision}: choose {' or '.join(able)}, or fp32")
        _need((*self.packages, *(self.other_packages or {}).get(precision, ())), f"format {self.name} is written by")

    def _function(self, verb: str) -> Callable:
        name = f"{verb}_{self.name.replace('-', '_')}"
        return pkgutil.resolve_name(f"{__package__}.{self.module}:{name}")


def _need(modules: Iterable[str], what: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{what} {', '.join(missing)}, which is not installed: pip install -e '.[export]'")


ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("torch-export", ".pt2", "torch_formats"),
        Format("aoti", ".pt2", "torch_formats", compiled=True),
        Format("onnx", ".onnx", "onnx_format", ONNX, ("onnxruntime",), PRECISIONS),
        Format(
            "openvino",
            ".xml",
            "openvino_format",
            ("onnx", "onnxscript", "openvino"),
            ("openvino",),
            PRECISIONS,
            dict(int8=("nncf",)),
        ),
    )
}
SUFFIXES = tuple(dict.fromkeys(one.suffix for one in FORMATS.values()))


def format_named(name: str | None, path: Path) -> Format:
    """Return the format of that name, or the first one of the suffix of ``path``.

    Raises:
        ConfigError: there is none, or the suffix is another format's.
    """
    known = ", ".join(f"{one.name} ({one.suffix})" for one in FORMATS.values())
    if name is None:
        found = next((one for one in FORMATS.values() if one.suffix == path.suffix), None)
        if found is None:
            raise ConfigError(f"{path} has the suffix of no format: give a format or one of {known}")
        return found
    if name not in FORMATS:
        raise ConfigError(f"format is {name!r}: choose one of {known}")
    if path.suffix != FORMATS[name].suffix:
        raise ConfigError(f"{path} is no name for format {name}: it ends in {FORMATS[name].suffix}")
    return FORMATS[name]


class ExportedModel:
    """A file that ``export_model`` wrote: ``ExportedModel("model.onnx")(images)["probabilities"]``.

    Args:
        path: of the file.

    Attributes:
        metadata: what the file says about itself: task, classes, input, normalisation, method, gmacs, versions, ...

    Raises:
        DataError: there is no such file.
        ConfigError: it was not written by this project, or its runtime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"exported model {path} does not exist: check the path")
        found = format_named(None, self.path)
        self.metadata, self._run = found.load(self.path)
        if not self.metadata.get("outputs"):
            raise ConfigError(f"{path} says nothing about its outputs: it was not written by tools/export.py")

    @property
    def size(self) -> tuple[int, int] | None:
        """The only (h, w) that it takes; None if they are free."""
        h, w = self.metadata["input"]["shape"][2:]
        return None if isinstance(h, str) else (h, w)

    @property
    def multiple(self) -> int:
        """Of which h and w must be multiples; 1 where they are not free."""
        return self.metadata["input"].get("multiple", 1)

    @property
    def batch(self) -> int | None:
        """The only number of images that it takes; None if it is free."""
        batch = self.metadata["input"]["shape"][0]
        return None if isinstance(batch, str) else batch

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run it on images (B, 3, h, w) of the type that it takes and return the outputs by name.

        Raises:
            DataError: the file was made for another shape or type.
        """
        wanted, kind = self.metadata["input"]["shape"], self.metadata["input"]["dtype"]
        fits = len(images.shape) == 4 and all(
            isinstance(side, str) or side == own for side, own in zip(wanted, images.shape, strict=True)
        )
        fits = fits and not any(side % self.multiple for side in images.shape[2:])
        if not fits or images.dtype != getattr(torch, kind):
            multiples = "" if self.multiple == 1 else f" (multiples of {self.multiple})"
            raise DataError(
                f"{self.path} takes images {tuple(wanted)}{multiples} of type {kind}, and these are "
                f"{tuple(images.shape)} of type {str(images.dtype).removeprefix('torch.')}"
            )
        return dict(zip(self.metadata["outputs"], self._run(images), strict=True))
