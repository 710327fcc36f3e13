"""Export a model to a file and prove that the file computes the same.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from token_pruning.host import find_host

from ..errors import ConfigError, DataError
from .compare import NOISE, Differences, largest_differences, outputs_of, own_differences, too_far
from .formats import ExportedModel, format_named
from .graphs import AnyGraph, Preprocessed, WithTokens, graph_of
from .metadata import describe, normalisation
from .trace import others, traced

PROBE = f"noise of {NOISE:g} on images and products"


@dataclass(frozen=True)
class Exported:
    """What ``export_model`` has done.

    Attributes:
        path: of the file.
        metadata: that the file holds.
        differences: output -> what is compared and how far the file is from eager PyTorch, see
            ``compare.differences``; the largest over all images.
        own: the same between eager PyTorch and itself with noise of one millionth (``compare.NOISE``) on images and
            products, where the file is further off than the tolerance: such a model takes other decisions wherever
            numbers are rounded differently. Else None.
        checked: shapes (B, 3, h, w) of the images that were compared.
    """

    path: Path
    metadata: dict[str, object]
    differences: Differences
    own: Differences | None
    checked: list[tuple[int, ...]]

    def summary(self) -> str:
        """Return it in words."""
        off = in_words(self.differences)
        if self.own:
            off += f"; PyTorch with {PROBE} differs from itself by {in_words(self.own)}"
        shapes = ", ".join(dict.fromkeys("x".join(map(str, shape)) for shape in self.checked))
        cost = f"{self.metadata['gmacs']:.3g} GMACs per image"
        return f"{self.path}: {cost}; differs from PyTorch by {off} (images {shapes})"


@dataclass(frozen=True)
class Traced:
    """A model whose program is ready to be written.

    Attributes:
        graph: the module.
        program: its program.
        metadata: what every file of it says.
        images: that it was traced with.
    """

    graph: nn.Module
    program: ExportedProgram
    metadata: dict[str, object]
    images: Tensor

    def write(
        self,
        path: str | Path,
        format: str | None = None,
        *,
        precision: str = "fp32",
        calibration: Iterable[Tensor] = (),
        check: Iterable[Tensor] = (),
        tolerance: float | None = None,
        more: Mapping[str, object] | None = None,
    ) -> Exported:
        """Write a file, run it and compare it; arguments as of ``export_model``, ``more`` is its ``metadata``."""
        path = Path(path)
        kind = format_named(format, path)
        about = dict(self.metadata, format=kind.name, precision=precision, **(more or {}))
        shape, multiple = self.metadata["input"]["shape"], self.metadata["input"].get("multiple")
        batches = [*check, self.images, *others(self.images, "batch" in shape, multiple)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            part = Path(folder) / path.name
            kind.write(self.program, part, about, calibration)
            expected, own = outputs_of(self.graph), None
            off = largest_differences(expected, ExportedModel(part), batches)
            if tolerance is None and too_far(off, precision):
                own = own_differences(self.graph, batches)
            wrong = too_far(off, precision, tolerance, own)
            if wrong:
                also = f"; {PROBE} moves PyTorch's own by {own[wrong][1]:.2g}" if own else ""
                raise ConfigError(
                    f"{kind.name} computes other {wrong} than PyTorch (off by {off[wrong][1]:.2g}{also}), so {path} "
                    "was not written: try another format, or allow more with --tolerance"
                )
            _move(Path(folder), path)
        return Exported(path, about, off, own, [tuple(batch.shape) for batch in batches])


def export_model(
    model: nn.Module,
    images: Tensor,
    path: str | Path,
    format: str | None = None,
    *,
    outputs: str = "predictions",
    masks: str = "roi",
    tokens: bool = False,
    preprocess: bool = False,
    dynamic: Sequence[str] = (),
    precision: str = "fp32",
    calibration: Iterable[Tensor] = (),
    check: Iterable[Tensor] = (),
    tolerance: float | None = None,
    metadata: Mapping[str, object] | None = None,
    force: bool = False,
) -> Exported:
    """Export ``model`` to the file ``path``, run the file and compare it with the model.

    Args:
        model: one that a config builds; or any other module of images, such as a timm or Hugging Face model after
            ``token_pruning.apply``. In evaluation mode, on the CPU.
        images: example inputs (B, 3, h, w), normalised as the model wants them, or uint8 RGB with ``preprocess``. What
            is not ``dynamic`` keeps their size.
        path: must not exist.
        format: "torch-export", "aoti", "onnx" or "openvino"; None goes by the suffix of ``path``.
        outputs, masks: of models from configs, see ``graph_of``.
        tokens: the file also returns which tokens each of L blocks computed, as "tokens" (B, L, H, W) bool.
        preprocess: models from configs normalise inside the file, which then takes uint8 RGB.
        dynamic: "batch", "size" (any multiple of the model's stride).
        precision: "fp32"; "fp16" and "int8" by the tools of ONNX Runtime and OpenVINO (NNCF).
        calibration: batches of inputs, for int8.
        check: further batches of inputs to compare on; where batch or size are free, others are always tried.
        tolerance: largest difference; None: ``compare.TOLERANCES``, or 1.5 times what noise of one millionth on the
            images changes in PyTorch itself, if that is more.
        metadata: further entries for the file, such as ``classes``; all of JSON's types.
        force: replace ``path``.

    Raises:
        ConfigError: the model, the format or the options do not allow it, or the file computes something else; then
            nothing is written.
        DataError: the images do not fit the model.
    """
    path = Path(path)
    kind = format_named(format, path)
    kind.check(precision)
    check_free(path, force)
    calibration = list(calibration)
    if precision == "int8" and not calibration:
        raise ConfigError("int8 needs images that say which values occur: give a folder (--calibrate)")
    ready = trace_model(
        model,
        images,
        outputs=outputs,
        masks=masks,
        tokens=tokens,
        preprocess=preprocess,
        dynamic=dynamic,
        compiled=kind.compiled,
    )
    return ready.write(
        path, kind.name, precision=precision, calibration=calibration, check=check, tolerance=tolerance, more=metadata
    )


def trace_model(
    model: nn.Module,
    images: Tensor,
    *,
    outputs: str = "predictions",
    masks: str = "roi",
    tokens: bool = False,
    preprocess: bool = False,
    dynamic: Sequence[str] = (),
    compiled: bool = False,
) -> Traced:
    """Return the program of ``model``, to be written in one format or several.

    Args:
        model, images, outputs, masks, tokens, preprocess, dynamic: see ``export_model``.
        compiled: deformable attention stays this project's compiled operator, which format "aoti" alone can call.
    """
    if model.training:
        raise ConfigError(f"this {type(model).__name__} is in training mode: call .eval() first")
    _check_images(model, images)
    whole = hasattr(model, "data_preprocessor")
    how = normalisation(model.data_preprocessor) if whole else None
    if preprocess and not whole:
        raise ConfigError(f"{type(model).__name__} has no preprocessor: normalise before it, or in a module around it")
    if "batch" in dynamic and len(images) == 1:
        images = torch.cat([images, images.flip(3)])  # torch.export takes 1 for a constant
    graph = graph_of(model, outputs, masks) if whole else AnyGraph(model)
    graph = WithTokens(graph) if tokens else graph
    graph = (Preprocessed(graph, how) if preprocess else graph).eval()
    multiple = stride_of(model)
    about = describe(graph, images, dynamic, multiple, normalisation=how, preprocessed=preprocess)
    return Traced(graph, traced(graph, images, dynamic, multiple, compiled), about, images)


def in_words(found: Differences) -> str:
    """Return differences as a part of a sentence."""
    words = dict(values="{:.1e} of the largest value", labels="{:.2%} of the places", objects="{:.1%} of the objects")
    return ", ".join(f"{name} {words[kind].format(value)}" for name, (kind, value) in found.items())


def check_free(path: Path, force: bool = False) -> None:
    """Raise ConfigError if ``path`` exists and may not be replaced, or its folder cannot be written to."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists: give another name, or --force to replace it")
    folder = next(parent for parent in (path.parent, *path.absolute().parents) if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{path} cannot be written: {folder} is no folder that can be written to")


def stride_of(model: nn.Module) -> int:
    """Return the multiple that sides of images must be of, in a file whose size is free."""
    host = find_host(model)
    strides = getattr(host, "strides", None) or (getattr(getattr(host, "patch_embed", None), "patch_size", (16,))[0],)
    return max(strides)


def _check_images(model: nn.Module, images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"example images of shape {tuple(images.shape)}: give (batch, 3, height, width)")
    embed = getattr(find_host(model), "patch_embed", None)
    if getattr(embed, "strict_img_size", False) and tuple(images.shape[-2:]) != tuple(embed.img_size):
        h, w = embed.img_size
        raise DataError(
            f"{type(model).__name__} takes images of {h} x {w} pixels only, not {images.shape[2]} x {images.shape[3]}: "
            f"give --shape {h} {w}"
        )


def _move(folder: Path, path: Path) -> None:
    """Move the finished files of ``folder`` to where ``path`` stands, the one of that name last."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
        target = path.with_name(file.name)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(file, target)
