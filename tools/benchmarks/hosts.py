"""Time methods on the hosts that people run: DINOv2, DINOv3 and Hugging Face models, at the sizes of dense tasks.

    python tools/benchmarks/hosts.py --weights pretrained/vit_small_patch14_dinov2_focus.safetensors --json rows.json

Each case runs one network, dense and with several methods, in turns on the same images, batch 1, whole backbone. A
row says how many times faster a form is than the dense network and how many times fewer multiply-adds it has, the
matching of tokens included: a method that costs nothing but its multiply-adds has ``efficiency`` 1. Where the number of
merged tokens follows from the content, images and weights matter: give real ones.

Shapes: h x w pixels.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.io import ImageReadMode, read_image

import token_pruning
from mmcv_custom.benchmark.timing import add_rounds, interleaved, quartiles, speedup
from mmcv_custom.checkpoint.load import load_into
from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row, write_json
from token_pruning import count_flops

ROOT = Path(__file__).parents[2]
IMAGES = ("docs/images/tome_detection.jpg", "docs/images/dtop_segmentation.jpg")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Case:
    """One network and what is compared on it.

    Attributes:
        build: returns the dense network.
        size: (h, w).
        reducers: by the name in the rows.
        weights: whether the file of ``--weights`` is loaded.
    """

    build: Callable[[], nn.Module]
    size: tuple[int, int]
    reducers: Mapping[str, dict]
    weights: bool = False


def timm_model(name: str, size: int) -> nn.Module:
    """Build a timm model without head for square images of ``size``."""
    return timm.create_model(name, img_size=size, num_classes=0)


def dinov2_of_transformers() -> nn.Module:
    """Build a Dinov2-S of transformers with random weights.

    Raises:
        ConfigError: transformers is not installed.
    """
    try:
        from transformers import Dinov2Config, Dinov2Model
    except ImportError:
        raise ConfigError("the case hf-dinov2-s-518 needs transformers: pip install -e .[hf]") from None
    return Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518))


# At half of the tokens on average: 4,096 tokens lose 341 in each of 12 blocks.
HALF = {
    "ToMe": dict(type="ToMe", r=341),
    "SViT": dict(type="SViT", mode="ratio", keep_ratio=0.5, blocks=list(range(12))),
    "CubistMerge": dict(type="CubistMerge", r=0.29),
}
FREE = {
    "MPM": dict(type="MPM", blocks=[2, 5]),
    "PiToMe": dict(type="PiToMe", keep_ratio=0.9),
    "ALGM": dict(type="ALGM", threshold=0.9),
    "ToMe": dict(type="ToMe", r=0.06),
    "ToMe, no sizes": dict(type="ToMe", r=0.06, prop_attn=False),
    "CubistMerge": dict(type="CubistMerge", r=0.2),
    "EViT by shift": dict(type="EViT", keep_ratio=0.8, score="representation_shift"),
}
DINOV2, DINOV3 = "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"
CASES = {
    "dinov3-s-1024": Case(partial(timm_model, DINOV3, 1024), (1024, 1024), HALF),
    "dinov2-s-896": Case(partial(timm_model, DINOV2, 896), (896, 896), FREE, weights=True),
    "dinov2-s-448": Case(partial(timm_model, DINOV2, 448), (448, 448), FREE, weights=True),
    "hf-dinov2-s-518": Case(dinov2_of_transformers, (518, 518), {"ToMe": dict(type="ToMe", r=0.04)}),
}


@dataclass
class Form:
    """One form of a network: its rows' name, what runs it, and its multiply-adds per image."""

    name: str
    model: nn.Module
    reducer: dict | None
    gmacs: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[c for c in CASES if not c.startswith("hf-")])
    parser.add_argument("--weights", metavar="FILE", help="of the DINOv2 cases (default: random)")
    parser.add_argument("--images", nargs="+", metavar="FILE", default=[str(ROOT / name) for name in IMAGES])
    add_rounds(parser, 8)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    # Before the cases that do not read them, which take minutes.
    for option, file in [("--weights", args.weights), *(("--images", file) for file in args.images)]:
        if file and not Path(file).is_file():
            raise ConfigError(f"{option} {file} does not exist: check the path (pretrained/README.md lists weights)")
    return args


def read(file: str, size: tuple[int, int]) -> Tensor:
    """Return an image (1, 3, h, w) with ImageNet's normalisation.

    Raises:
        ConfigError: the file is no image.
    """
    try:
        image = read_image(file, ImageReadMode.RGB)[None].float()
    except RuntimeError as error:
        raise ConfigError(f"--images {file}: {error}") from None
    image = F.interpolate(image, size, mode="bilinear", antialias=True)
    return (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def forms_of(case: Case, weights: str | None) -> list[Form]:
    """Return the network as its library runs it, dense and pruned by this project, all with the same weights."""

    def build(reducer: dict | None, apply: bool = True) -> nn.Module:
        torch.manual_seed(0)
        model = case.build().eval()
        if case.weights and weights:
            load_into(model, weights, logger="silent")
        return token_pruning.apply(model, reducer and dict(reducer)) if apply else model

    forms = [Form("library", build(None, apply=False), None), Form("dense", build(None), None)]
    return forms + [Form(name, build(reducer), dict(reducer)) for name, reducer in case.reducers.items()]


@torch.no_grad()
def measure(name: str, case: Case, images: Sequence[str], weights: str | None, rounds: int) -> list[dict]:
    """Return one row for each form of a case."""
    forms, inputs = forms_of(case, weights), [read(file, case.size) for file in images]
    for form in forms[1:]:
        for image in inputs:
            with count_flops() as flops:
                form.model(image)
            form.gmacs.append(flops.gmacs)
    forms[0].gmacs = forms[1].gmacs
    _check_equal(forms, inputs[0])
    steps = [partial(_step, form.model, inputs) for form in forms]
    times = interleaved(steps, inputs[0].device, rounds, warmup=1)
    ms = {form.name: [total for (total,) in own] for form, own in zip(forms, times, strict=True)}
    dense = statistics.mean(forms[1].gmacs)
    rows = []
    for form in forms:
        gmacs, faster = statistics.mean(form.gmacs), speedup(ms["dense"], ms[form.name], "dense")
        rows.append(
            row(
                case=name,
                form=form.name,
                weights="trained" if case.weights and weights else "random",
                checkpoint=weights if case.weights else None,
                reducer=form.reducer,
                batch=1,
                shape=list(case.size),
                images=[Path(file).name for file in images],
                device="cpu",
                precision="fp32",
                rounds=rounds,
                gmacs=gmacs,
                fewer_gmacs=dense / gmacs,
                ms=statistics.median(ms[form.name]),
                ms_quartiles=quartiles(ms[form.name]),
                **faster,
                efficiency=faster["speedup_vs_dense"] / (dense / gmacs),
            )
        )
    return rows


def _step(model: nn.Module, inputs: Sequence[Tensor], repeat: int) -> None:
    model(inputs[repeat % len(inputs)])


def _check_equal(forms: Sequence[Form], image: Tensor) -> None:
    """Raise RuntimeError if this project's dense form computes something else than the library's."""
    first, second = (_tensor(form.model(image)) for form in forms[:2])
    difference = float((first - second).abs().max() / first.abs().max())
    if not difference < 1e-3:
        raise RuntimeError(f"the dense form differs by {difference:.2g} of the largest output from the library's")


def _tensor(output: Any) -> Tensor:
    return output if torch.is_tensor(output) else output[0]


def main() -> None:
    args = parse_args()
    rows = []
    for name in args.cases:
        rows += (own := measure(name, CASES[name], args.images, args.weights, args.rounds))
        print(name)
        for r in own:
            low, high = r["speedup_vs_dense_quartiles"]
            print(
                f"  {r['form']:<16}{r['ms']:>9.1f} ms{r['gmacs']:>8.1f} GMACs {r['speedup_vs_dense']:>6.2f}x dense "
                f"[{low:.2f}, {high:.2f}], {r['efficiency']:.2f} of the multiply-adds' ratio",
                flush=True,
            )
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
