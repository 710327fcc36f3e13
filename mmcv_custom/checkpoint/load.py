"""Loading weights into a model, with a report."""

from __future__ import annotations

import os
import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import nn

from ..errors import CheckpointError
from . import eomt, hub, key_maps
from .io import read_checkpoint
from .pos_embed import fit_pos_embed, grid_of, noted_grid
from .wrappers import locate, unwrap

# Of these, a shape that does not fit means another network; heads and patch embeddings may be exchanged.
_TRUNK = re.compile(r"^(backbone\.)?(blocks\.\d+\.|(pos_embed|cls_token|reg_token)$)")


@dataclass
class LoadReport:
    """Result of loading a checkpoint; ``str()`` gives a readable summary.

    Attributes:
        schema: the naming schema of the file.
        entry: the file's entry that was read, if raw and averaged weights are side by side in it.
        loaded: number of the model's tensors that were loaded.
        total: number of the model's tensors.
        missing: names of the model's tensors that the file lacks.
        unexpected: names of the file's tensors, converted, that the model lacks.
        mismatched: (name, shape in the file, shape in the model) of tensors that were not loaded.
        resized: (name, shape in the file, shape in the model) of tensors that were resampled.
        not_finite: names of parameters that were loaded and hold NaN or infinity.
    """

    schema: str
    entry: str | None = None
    loaded: int = 0
    total: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    resized: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"loaded {self.loaded} of the model's {self.total} tensors (from a {self.schema} checkpoint)"]
        if self.entry:
            lines.append(f"  from {self.entry}: raw and averaged weights are in the file, `averaged` chooses")
        lines += [f"  resized {n}: {list(a)} -> {list(b)}" for n, a, b in self.resized]
        for name, names in _grouped(self.missing).items():
            why = " (a dense checkpoint)" if ".reducer." in f".{name}." else ""
            lines.append(f"  missing {name}: {_count(names)}, freshly initialised{why}")
        for name, names in _grouped(self.unexpected).items():
            why = ""
            if ".reducer." in f".{name}.":
                why = " (a pruned checkpoint in a model without this reducer)"
            elif name.split(".")[-1] in ("cls_token", "dist_token", "norm") or all(
                map(key_maps.is_training_part, names)
            ):
                why = " (parts of pretraining)"
            lines.append(f"  unused {name}: {_count(names)}{why}")
        lines += [
            f"  kept as initialised {n}: {list(a)} in the file, {list(b)} in the model" for n, a, b in self.mismatched
        ]
        if self.not_finite:
            lines.append(
                f"  NaN or infinity in {self.not_finite[0]}{_and_more(self.not_finite)}: the file is damaged, or its "
                "training has diverged"
            )
        return "\n".join(lines)


def load_into(
    model: nn.Module,
    checkpoint: str | os.PathLike | dict,
    logger: object = None,
    strict: bool = False,
    source: str = "the checkpoint",
    averaged: bool = True,
) -> LoadReport:
    """Load a checkpoint of any published schema into a model and report the result.

    Names are converted by ``key_maps.from_published``. Position tables and patch embeddings are resampled; other
    tensors of another shape (heads with another number of classes) are left as initialised.

    Args:
        model: a detector (names ``backbone.*``), a backbone, or any module; not a DDP wrapper.
        checkpoint: a path or URL, or the content of a file.
        logger: where the report goes (MMEngine's ``print_log``); None prints it. Only the main process reports.
        strict: require every tensor of the model and of the file to match, as when a run is resumed.
        source: name of the checkpoint in messages, if it is not a path.
        averaged: of raw and averaged weights side by side (``state_dict`` and ``state_dict_ema``), whether to take the
            averaged ones.

    Raises:
        CheckpointError: the file cannot be read, does not match with ``strict``, or is of another model: it has fewer
            than half of the model's parameters or, if it holds a backbone only, fewer than half of the parameters of
            the trunk's ``blocks.*``; or the trunk lacks something that the file's outputs depend on: layer scale,
            registers, relative positions.
    """
    if isinstance(checkpoint, (str, os.PathLike)):
        source = str(checkpoint)
        checkpoint = read_checkpoint(source)
    own = model.state_dict()
    try:
        given = unwrap(checkpoint, own, averaged)
        schema = eomt.describe(given) or key_maps.describe(given)
        given = eomt.from_published(given, own)
    except ValueError as error:
        raise CheckpointError(f"{source} {error}") from None

    report = LoadReport(schema=schema)
    if locate(checkpoint, averaged) != locate(checkpoint, not averaged):
        report.entry = ".".join(locate(checkpoint, averaged))
    tower = given if strict or given.keys() & own.keys() else hub.image_tower(given)
    state = key_maps.fit_linear_segmentor(key_maps.from_published(tower), own)
    state, backbone_only = key_maps.align_prefix(state, own)
    if not strict:
        state = _fit_trunk(source, state, own, model, given)
        state = key_maps.fit_qkv_bias(state, own)
    backbone_only = (
        backbone_only
        or not any(k.startswith("backbone.") for k in own)
        or all(k.startswith("backbone.") or key_maps.is_training_part(k) and k not in own for k in state)
    )
    fitting = OrderedDict()
    for name, value in state.items():
        if name in own and name.endswith("pos_embed") and not strict:
            fitted = fit_pos_embed(value, own[name], grid_of(model, name), noted_grid(given))
            if fitted is not None and fitted is not value:
                report.resized.append((name, tuple(value.shape), tuple(fitted.shape)))
                value = fitted
        if name in own and value.shape != own[name].shape:
            fitted = None if strict else key_maps.fit_patches(name, value, own[name])
            if fitted is None:
                report.mismatched.append((name, tuple(value.shape), tuple(own[name].shape)))
                continue
            report.resized.append((name, tuple(value.shape), tuple(fitted.shape)))
            value = fitted
        fitting[name] = value

    parameters = {n for n, _ in model.named_parameters()}
    _check_same_model(source, given, own, parameters, {*fitting}, backbone_only, report.mismatched, strict)
    fitting._metadata = getattr(state, "_metadata", None)
    differing = {n for n, _, _ in report.mismatched}
    if strict:
        lacking = [n for n in own if n not in fitting and n not in differing]
        extra = [n for n in fitting if n not in own]
        if lacking or extra or differing:
            parts = [(lacking, "missing in it"), (extra, "unknown to the model"), (differing, "of another shape")]
            differences = ", ".join(f"{_count(sorted(n))} {what} (e.g. {sorted(n)[0]})" for n, what in parts if n)
            raise CheckpointError(
                f"{source} cannot be resumed by this config: {differences}; resume with the config that wrote it, "
                "or start from its weights with --load-from"
            )
    result = model.load_state_dict(fitting, strict=False)
    # Some layers upgrade old names while loading, so PyTorch's result is the right one.
    report.missing = [n for n in result.missing_keys if not n.endswith("num_batches_tracked") and n not in differing]
    report.unexpected = list(result.unexpected_keys)
    counted = [n for n in own if not n.endswith("num_batches_tracked")]
    report.total = len(counted)
    report.not_finite = [n for n in fitting if n in parameters and not fitting[n].isfinite().all()]
    report.loaded = len(counted) - len(report.missing) - len(differing)
    if is_main_process():
        print_log(f"{source}: {report}", logger=logger)
    return report


def _fit_trunk(source, state, own, model, given):
    """Fit the backbone's weights in ``state`` to the model's forms; refuse weights that matter and have no place."""
    prefix = "backbone." if any(k.startswith("backbone.") for k in own) else ""
    trunk = model.get_submodule(prefix[:-1])
    names = {k[len(prefix) :]: v for k, v in own.items() if k.startswith(prefix)}
    inside = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    inside = hub.fit_class_row(hub.fit_names(inside, names), names, trunk, given)
    out = OrderedDict((k, v) for k, v in state.items() if not k.startswith(prefix))
    out.update((prefix + k, v) for k, v in inside.items())
    out._metadata = getattr(state, "_metadata", None)
    leftover = hub.leftover_of(inside, names, trunk)
    if leftover and any(k.startswith("blocks.") and k in names for k in inside):
        raise CheckpointError(f"{source} {leftover}")
    return out


def _check_same_model(source, given, own, parameters, matched, backbone_only, mismatched, strict) -> None:
    wanted, part = parameters, "parameters"
    if backbone_only:
        trunk = {n for n in parameters if re.search(r"(?<![^.])blocks\.\d+\.", n)}
        wanted = trunk or {n for n in parameters if n.startswith("backbone.")} or parameters
        part = "trunk's blocks" if trunk else "backbone's parameters"
    found = len(wanted & matched)
    in_trunk = [entry for entry in mismatched if _TRUNK.search(entry[0])]
    if 2 * found >= len(wanted) and (strict or not in_trunk):
        return
    others = [entry for entry in mismatched if entry[0] in wanted]
    name, here, there = next(iter(in_trunk + others), (None, None, None))
    if name:
        why = f"{name} is {list(here)} in the file and {list(there)} in the model"
    else:
        unknown = [k for k in given if k not in own] or list(given)
        lacking = [n for n in own if n in wanted and n not in matched]
        why = f"it has {', '.join(unknown[:3])} where the model has {', '.join(lacking[:3])}"
    if 2 * found >= len(wanted):
        raise CheckpointError(
            f"{source} does not fit the model: {why}; set the sizes (img_size, mlp_ratio, ...) of the file's network"
        )
    raise CheckpointError(
        f"{source} is of another model: {found} of the {len(wanted)} tensors of the model's {part} are in it; {why}"
    )


def _grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by module for the report: backbone.spm, backbone.reducer.selectors, roi_head.bbox_head."""
    groups = defaultdict(list)
    for name in names:
        parts = name.split(".")
        depth = 2 + (parts[:2] == ["backbone", "reducer"])
        if parts[0] != "backbone" and parts[0] in ("reducer", "blocks", "spm", "interactions", "up"):
            depth = 1 + (parts[0] == "reducer")
        groups[".".join(parts[: min(depth, max(1, len(parts) - 1))])].append(name)
    return groups


def _and_more(names):
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _count(names):
    return f"{len(names)} tensor" + "s" * (len(names) != 1)
