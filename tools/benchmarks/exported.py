"""Time exported models against eager PyTorch and torch.compile, dense and pruned, on the CPU.

    python tools/benchmarks/exported.py --json rows.json

Every case is one network, dense and with one or two methods. Each form of it (eager, compiled, AOTInductor, ONNX
Runtime, OpenVINO) runs on the same images in turns with all others, in float32 with the same number of threads. Files
are made by mmcv_custom.export, which compares them with eager before they are timed; a file that cannot be made is
named and left out. The weights are random: what is measured is speed only.

Shapes: B images, h x w pixels.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

import token_pruning
from mmcv_custom.benchmark.timing import add_rounds, of_forms, quartiles, speedup
from mmcv_custom.cli.launch import build_model, read_config, run
from mmcv_custom.errors import UserError
from mmcv_custom.export import ExportedModel, Traced, trace_model
from mmcv_custom.export.formats import FORMATS
from mmcv_custom.results import row, write_json
from token_pruning.errors import SettingError

DENSE = "dense"


@dataclass(frozen=True)
class Case:
    """A network, its images and its pruned forms.

    Attributes:
        model: name of a timm model, or config.
        size: (h, w).
        methods: word -> reducer of a pruned form.
        options: arguments of the timm model, or dotted keys of the config.
        batch: B.
    """

    model: str
    size: tuple[int, int]
    methods: Mapping[str, Mapping[str, object]]
    options: Mapping[str, object] = field(default_factory=dict)
    batch: int = 1

    def build(self, reducer: Mapping[str, object] | None) -> nn.Module:
        """Return the network with ``reducer``, with the same random weights every time."""
        torch.manual_seed(0)
        if not self.model.endswith(".py"):
            model = timm.create_model(self.model, **self.options).eval()
            return token_pruning.apply(model, reducer and dict(reducer))
        options = {} if reducer is None else {"model.backbone.reducer": dict(reducer)}
        return build_model(read_config(self.model, {**self.options, **options}), None)


# Kept exactly, as random selectors select nothing in particular.
SVIT = dict(type="SViT", mode="ratio", keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3)
TOME = dict(type="ToMe", r=0.05)
CUBIST = dict(type="CubistMerge", r=0.4)
LONG = dict(img_size=(800, 1344), num_classes=0, global_pool="")
CASES = {
    "deit-s-224": Case(
        "deit_small_patch16_224",
        (224, 224),
        {
            "ToMe": dict(type="ToMe", r=13),
            "EViT": dict(type="EViT", keep_ratio=0.7),
            "CubistMerge": dict(type="CubistMerge", r=4),
        },
    ),
    "vit-s-4200": Case("vit_small_patch16_224", (800, 1344), {"SViT": SVIT, "ToMe": TOME, "CubistMerge": CUBIST}, LONG),
    "mask-rcnn-s-800x1344": Case(
        "configs/mask_rcnn/vit-adapter-s-3x.py",
        (800, 1344),
        {"SViT": SVIT, "ToMe": TOME, "CubistMerge": CUBIST},
    ),
    "segvit-b-512": Case(
        "configs/segvit/vit-b_segvit_ade20k-512.py",
        (512, 512),
        {"SViT": SVIT, "ToMe": dict(type="ToMe", r=0.08), "CubistMerge": dict(type="CubistMerge", r=0.3)},
    ),
}
EAGER, COMPILED = "eager", "torch.compile"
FILES = ("aoti", "onnx", "openvino")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=(COMPILED, *FILES),
        default=[COMPILED, *FILES],
        help="besides eager (default: all)",
    )
    add_rounds(parser, 7)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE, after each case")
    return parser.parse_args()


@dataclass
class Form:
    """One way to run one network.

    Attributes:
        method: "dense", or the word of a method.
        runtime: "eager", "torch.compile" or a format.
        call: runs it on the case's images.
        gmacs: of one image.
        difference: from eager, as ``mmcv_custom.export.compare`` gives it; None for eager and torch.compile.
        seconds: to make it.
    """

    method: str
    runtime: str
    call: Callable[[], object]
    gmacs: float
    difference: float | None = None
    seconds: float = 0.0


def forms_of(case: Case, runtimes: list[str], folder: Path) -> list[Form]:
    """Return every form of a case, files written below ``folder``."""
    torch.manual_seed(0)
    images, forms = torch.randn(case.batch, 3, *case.size), []
    for word, reducer in {DENSE: None, **case.methods}.items():
        model = case.build(reducer)
        kinds = {False, *(FORMATS[runtime].compiled for runtime in runtimes if runtime != COMPILED)}
        programs = {compiled: _traced(model, images, compiled) for compiled in kinds}
        eager, _ = programs[False]
        gmacs = eager.metadata["gmacs"]
        forms.append(Form(word, EAGER, partial(eager.graph, images), gmacs))
        for runtime in runtimes:
            start = time.perf_counter()
            if runtime == COMPILED:
                call = partial(torch.compile(eager.graph, dynamic=False), images)
                call()
                forms.append(Form(word, runtime, call, gmacs, seconds=time.perf_counter() - start))
                continue
            ready, tracing = programs[FORMATS[runtime].compiled]
            made = _file_form(ready, runtime, images, folder / f"{word}-{runtime}{FORMATS[runtime].suffix}")
            if made is not None:
                call, difference = made
                forms.append(Form(word, runtime, call, gmacs, difference, time.perf_counter() - start + tracing))
    return forms


def _traced(model: nn.Module, images: Tensor, compiled: bool) -> tuple[Traced, float]:
    """Return the program of a model, and the seconds that it took."""
    start = time.perf_counter()
    return trace_model(model, images, compiled=compiled), time.perf_counter() - start


def _file_form(ready: Traced, name: str, images: Tensor, path: Path) -> tuple[Callable[[], object], float] | None:
    """Return how the file of a format is run and how far it is from eager; None, with a note, if it cannot be made."""
    try:
        FORMATS[name].check("fp32")
        done = ready.write(path, name)
        return partial(ExportedModel(path), images), max(value for _, value in done.differences.values())
    except (UserError, SettingError) as error:
        print(f"Note: {path.stem} is left out: {error}", file=sys.stderr, flush=True)
        return None


@torch.no_grad()
def measure(name: str, case: Case, runtimes: list[str], rounds: int) -> list[dict]:
    """Return one row for each form of a case."""
    torch._dynamo.reset()  # its limit of compilations is for all cases together
    with tempfile.TemporaryDirectory(prefix="exported-") as folder:
        forms = forms_of(case, runtimes, Path(folder))
        keys = {f"{form.method}, {form.runtime}": form for form in forms}
        ms = of_forms({key: form.call for key, form in keys.items()}, rounds)
    rows = []
    for key, form in keys.items():
        base = ms[f"{DENSE}, {EAGER}"]
        own_dense = ms.get(f"{DENSE}, {form.runtime}")
        rows.append(
            row(
                case=name,
                form=key,
                runtime=form.runtime,
                method=None if form.method == DENSE else form.method,
                model=case.model,
                weights="random",
                reducer=dict(case.methods[form.method]) if form.method in case.methods else None,
                batch=case.batch,
                shape=list(case.size),
                device="cpu",
                precision="fp32",
                rounds=rounds,
                gmacs=form.gmacs,
                ms=statistics.median(ms[key]),
                ms_quartiles=quartiles(ms[key]),
                **speedup(base, ms[key], "eager_dense"),
                **(speedup(own_dense, ms[key], "same_runtime_dense") if own_dense else {}),
                difference=form.difference,
                seconds_to_make=form.seconds,
            )
        )
    return rows


def main() -> None:
    args = parse_args()
    rows = []
    for name in args.cases:
        print(f"{name}: exporting, compiling and comparing outputs ...", flush=True)
        rows += (own := measure(name, CASES[name], args.runtimes, args.rounds))
        for r in own:
            versus = r.get("speedup_vs_same_runtime_dense")
            print(
                f"  {r['form']:<24}{r['ms']:>9.1f} ms{r['gmacs']:>8.1f} GMACs {r['speedup_vs_eager_dense']:>6.2f}x "
                f"eager dense{'' if versus is None else f' {versus:>6.2f}x dense in the same runtime'}",
                flush=True,
            )
        if args.json:
            write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
