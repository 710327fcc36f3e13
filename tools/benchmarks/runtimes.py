"""Time pruned ViTs against what a CPU user would take instead: torch.compile, ONNX Runtime, OpenVINO.

    python tools/benchmarks/runtimes.py --json rows.json

Every case runs one dense timm model, eager and in each runtime, in turns with this project's dense and pruned forms,
eager and compiled, all in float32 with the same number of threads. Before anything is timed, the outputs of all dense
forms must agree. ONNX Runtime and OpenVINO are optional (`pip install -e .[export]`). The weights are random: what is
measured is speed only. Pruned forms are compared with the fastest dense form of all.

Shapes: B images, h x w pixels, N tokens, C channels.
"""

import argparse
import copy
import io
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import timm
import torch
from torch import Tensor, nn

import token_pruning
from mmcv_custom.benchmark.timing import add_rounds, of_forms, quartiles, speedup
from mmcv_custom.cli.launch import run
from mmcv_custom.export.unreported import unreported
from mmcv_custom.results import row, write_json
from token_pruning import count_flops

TOLERANCE = 1e-3  # of the largest output: float32 sums in another order differ by less
Form = Callable[[], object]  # runs a network on the images of its case


@dataclass(frozen=True)
class Case:
    """One dense model, its images and the reducer of its pruned form.

    Attributes:
        model: name of the timm model.
        size: (h, w).
        batch: B.
        reducer: of the pruned form.
        options: further arguments of the timm model.
    """

    model: str
    size: tuple[int, int]
    batch: int
    reducer: Mapping[str, object]
    options: Mapping[str, object] = field(default_factory=dict)


MERGING = dict(type="ToMe", r=13)
# The published keep ratios, kept exactly: random selectors select nothing in particular.
SELECTION = dict(type="SViT", mode="ratio", keep_ratio=[0.7] * 3 + [0.49] * 3 + [0.343] * 3)
LONG = dict(img_size=(800, 1344), num_classes=0, global_pool="")  # a feature map of 4,200 tokens, as detectors need it
CASES = {
    "deit-s-1": Case("deit_small_patch16_224", (224, 224), 1, MERGING),
    "deit-s-32": Case("deit_small_patch16_224", (224, 224), 32, MERGING),
    "vit-s-4200": Case("vit_small_patch16_224", (800, 1344), 1, SELECTION, LONG),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    add_rounds(parser, 5)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    return parser.parse_args()


def eager(model: nn.Module, images: Tensor) -> Form:
    """Run the model as it is."""
    return partial(model, images)


def compiled(model: nn.Module, images: Tensor) -> Form:
    """Run the model through torch.compile."""
    return partial(torch.compile(model, dynamic=False), images)


def onnx_runtime(model: nn.Module, images: Tensor) -> Form:
    """Run the exported model in ONNX Runtime."""
    import onnxruntime

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes become constants, as they may
        torch.onnx.export(model, (images,), file, input_names=["images"], opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"images": images.numpy()})


def openvino(model: nn.Module, images: Tensor) -> Form:
    """Run the converted model in OpenVINO, which would choose bfloat16 by itself where the CPU has it."""
    runtime = unreported("openvino")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        converted = runtime.convert_model(model, example_input=images, input=list(images.shape))
    settings = dict(INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS=torch.get_num_threads())
    network = runtime.Core().compile_model(converted, "CPU", settings)
    return partial(network, [images.numpy()])


RUNTIMES = {"timm": eager, "torch.compile": compiled, "ONNX Runtime": onnx_runtime, "OpenVINO": openvino}
OURS = {"eager": eager, "compiled": compiled}


def forms_of(case: Case, model: nn.Module, images: Tensor) -> tuple[dict[str, Form], dict[str, Form], float, float]:
    """Return the dense and the pruned forms of a case by name, and the GMACs per image of a dense and a pruned one."""
    dense, pruned, gmacs = {}, {}, []
    for name, prepare in RUNTIMES.items():
        try:
            dense[name] = prepare(model, images)
        except ModuleNotFoundError as error:
            print(
                f"Note: {name} is left out, because {error.name} is missing: pip install -e .[export]",
                file=sys.stderr,
            )
    for reducer, forms, word in ((None, dense, "dense"), (case.reducer, pruned, case.reducer["type"])):
        for name, prepare in OURS.items():
            own = token_pruning.apply(copy.deepcopy(model), reducer and dict(reducer))
            forms[f"{word}, {name}"] = prepare(own, images)
        with count_flops() as flops:
            forms[f"{word}, eager"]()
        gmacs.append(flops.gmacs / case.batch)
    return dense, pruned, *gmacs


def largest_difference(forms: Mapping[str, Form]) -> dict[str, float]:
    """Return how far the output of each form is from the first one's, as a fraction of the largest output.

    Raises:
        RuntimeError: one of them computes something else.
    """
    outputs = {name: _tensor(form()) for name, form in forms.items()}
    first = next(iter(outputs.values()))
    found = {name: float((out - first).abs().max() / first.abs().max()) for name, out in outputs.items()}
    for name, difference in found.items():
        if not difference < TOLERANCE:
            raise RuntimeError(f"{name} differs by {difference:.2g} of the largest output from {next(iter(outputs))}")
    return found


def _tensor(output: object) -> Tensor:
    """Return the only output of a runtime, which may give it as an array, in a list or under a name."""
    if not torch.is_tensor(output):
        output = torch.as_tensor(output[0])
    return output


@torch.no_grad()
def measure(name: str, case: Case, rounds: int) -> list[dict]:
    """Return one row for each form of a case."""
    torch._dynamo.reset()  # its limit of compilations is for all cases together
    torch.manual_seed(0)
    model = timm.create_model(case.model, **case.options).eval()
    images = torch.randn(case.batch, 3, *case.size)
    dense, pruned, gmacs, pruned_gmacs = forms_of(case, model, images)
    differences = largest_difference(dense)
    forms = {**dense, **pruned}
    ms = of_forms(forms, rounds)
    fastest = min(dense, key=lambda form: statistics.median(ms[form]))
    return [
        row(
            case=name,
            form=form,
            model=case.model,
            weights="random",
            reducer=dict(case.reducer) if form in pruned else None,
            batch=case.batch,
            shape=list(case.size),
            device="cpu",
            precision="fp32",
            rounds=rounds,
            gmacs=pruned_gmacs if form in pruned else gmacs,
            ms=statistics.median(ms[form]),
            ms_quartiles=quartiles(ms[form]),
            **speedup(ms["timm"], ms[form], "timm"),
            fastest_dense=fastest,
            **speedup(ms[fastest], ms[form], "fastest_dense"),
            difference=differences.get(form),
            runtimes=_versions(),
        )
        for form in forms
    ]


def _versions() -> dict[str, str]:
    modules = {name: sys.modules.get(name) for name in ("onnxruntime", "openvino")}
    return {name: module.__version__ for name, module in modules.items() if module}


def main() -> None:
    args = parse_args()
    rows = []
    for name in args.cases:
        print(f"{name}: converting, compiling and comparing outputs ...", flush=True)
        rows += (own := measure(name, CASES[name], args.rounds))
        print(f"  fastest dense form: {own[0]['fastest_dense']}")
        for r in own:
            low, high = r["speedup_vs_fastest_dense_quartiles"]
            print(
                f"  {r['form']:<16}{r['ms']:>9.1f} ms{r['gmacs']:>8.1f} GMACs {r['speedup_vs_timm']:>6.2f}x timm "
                f"{r['speedup_vs_fastest_dense']:>6.2f}x the fastest dense [{low:.2f}, {high:.2f}]",
                flush=True,
            )
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
