"""Weights files in every wrapping, sound and broken, and files that would run code, through ``load_into``."""

import functools
import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from fuzz.contract import Broken, Case
from safetensors.torch import save as safetensors_of

from mmcv_custom.checkpoint.io import read_checkpoint
from mmcv_custom.checkpoint.load import load_into
from token_pruning import PlainViT

SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
WRAPPED = (
    *(
        "",
        "state_dict",
        "model",
        "model_state_dict",
        "state_dict_ema",
        "module",
        "net",
        "teacher",
        "params",
        "ema_state_dict",
    ),
    *("state_dict.model", "model.state_dict"),
)
PREFIXES = (
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "net.",
    "student.backbone.",
)
ODD = ("other model", "odd values", "no weights", "deep", "a tensor", "wrong shapes")
BROKEN = (
    *("cut", "bytes", "empty", "text", "code", "code in a state dict", "other model", "odd values", "other pickle"),
    *("folder", "missing", "no weights", "deep", "a tensor", "wrong shapes"),
)


@functools.cache
def model() -> PlainViT:
    """Return the small model that all files are loaded into."""
    return PlainViT(**SIZES)


class Runs:
    """An object that runs code when it is unpickled: it creates a file."""

    def __init__(self, path: str, function: object = open) -> None:
        self.path, self.function = path, function

    def __reduce__(self):
        return self.function, (self.path, "w")


def weights(case: Case) -> OrderedDict:
    """Return random weights under the model's names."""
    return OrderedDict((n, torch.randn(v.shape)) for n, v in model().state_dict().items())


def wrapped(case: Case, state: dict) -> dict:
    """Return a state dict in the wrapping of some trainer."""
    prefix, path = case.choose(*PREFIXES), case.choose(*WRAPPED)
    content: dict = {prefix + n: v for n, v in state.items()}
    if case.choose(False, True):
        content = OrderedDict(content)
    for name in reversed(path.split(".") if path else []):
        content = {name: content, "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(0.1)}]}}
    case.given += f"{path or 'bare'}, {prefix or 'no prefix'}; "
    return content


def odd_content(case: Case, how: str, state: dict) -> object:
    """Return what a broken file holds."""
    other = PlainViT(**dict(SIZES, embed_dim=36, num_heads=3)).state_dict()
    mixed = dict(state)
    for name in case.random.sample(list(mixed), 4):
        mixed[name] = case.choose(None, 3, "text", [1.0], {"a": 1}, np.zeros(3), torch.zeros(0), torch.tensor(1.0))
    return {
        "other model": case.choose(other, {"conv.weight": torch.zeros(3)}, {"layer4.0.bn1.weight": torch.zeros(9)}),
        "odd values": case.choose(mixed, {**state, 3: torch.zeros(2), None: 1, ("a",): torch.zeros(1)}),
        "no weights": case.choose(
            {}, {"state_dict": {}}, {"epoch": 3}, [], None, 3, "text", {"model": None}, {"state_dict": []}
        ),
        "deep": functools.reduce(lambda inner, _: {"model": inner}, range(60), state),
        "a tensor": case.choose(torch.zeros(3), [torch.zeros(3)], (torch.zeros(1), torch.zeros(2))),
        "wrong shapes": {n: v[..., :1] if case.random.random() < 0.5 else v.unsqueeze(0) for n, v in state.items()},
    }[how]


def run(case: Case) -> None:
    """Write one file and load it; what it would run must not have run."""
    state = weights(case)
    half = case.choose(torch.float32, torch.float16, torch.bfloat16, torch.float64)
    state = OrderedDict((n, v.to(half)) for n, v in state.items())
    how = case.choose(*BROKEN) if case.random.random() < 0.6 else "sound"
    kind = case.choose("pth", "pth", "safetensors", "old pth")
    case.given = f"{how} {kind} {half}; "
    mark = case.folder / "ran"
    if how in ("code", "code in a state dict"):
        function = case.choose(open, os.mkdir, eval, subprocess.Popen)
        content = (
            Runs(str(mark), function) if how == "code" else {"state_dict": state, "meta": Runs(str(mark), function)}
        )
    elif how in ODD:
        content = odd_content(case, how, state)
    else:
        content = wrapped(case, state)
    data = encoded(case, content, kind, how)
    path = case.folder / ("w.safetensors" if kind == "safetensors" and is_flat(content) else "w.pth")
    if how == "folder":
        path.mkdir()
    elif how != "missing":
        path.write_bytes(data)
    before = {n: v.clone() for n, v in model().state_dict().items()}
    read = case.allow(read_checkpoint, path, names=(str(path),))
    report = case.allow(load_into, model(), str(path), names=(str(path),), logger="silent")
    if mark.exists():
        raise Broken("the file has run code")
    if how.startswith("code") and (read is not None or report is not None):
        raise Broken("a file with code is taken")
    after = model().state_dict()
    if how == "sound":
        if report is None or report.missing or report.mismatched:
            raise Broken(f"sound weights are not loaded: {report}")
        for name, value in after.items():
            if not torch.equal(value, state[name].to(value.dtype)):
                raise Broken(f"{name} differs from the file")
    elif report is None and any(not _same(v, before[n]) for n, v in after.items()):
        raise Broken("a file that is refused has changed the model")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a[~a.isnan()], b[~b.isnan()])


def is_flat(content: object) -> bool:
    """Return whether safetensors can hold it."""
    return isinstance(content, dict) and all(
        isinstance(n, str) and isinstance(v, torch.Tensor) for n, v in content.items()
    )


def encoded(case: Case, content: object, kind: str, how: str) -> bytes:
    """Return the bytes of a file of the kind, broken where ``how`` says so."""
    file = io.BytesIO()
    if kind == "safetensors" and is_flat(content):
        file.write(safetensors_of({n: v.contiguous() for n, v in content.items()}))
    elif how == "other pickle":
        pickle.dump(content, file, protocol=case.choose(0, 2, 4))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind != "old pth")
    data = file.getvalue()
    if how == "cut":
        return data[: case.random.randrange(len(data))]
    if how == "bytes":
        changed = bytearray(data)
        for _ in range(case.choose(1, 5, 50)):
            changed[case.random.randrange(min(len(data), case.choose(400, len(data))))] ^= 1 << case.random.randrange(8)
        return bytes(changed)
    if how == "text":
        return case.choose(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<html>404</html>", b"x" * 999
        )
    if how == "empty":
        archive = io.BytesIO()
        zipfile.ZipFile(archive, "w").close()
        return case.choose(b"", archive.getvalue())
    return data
