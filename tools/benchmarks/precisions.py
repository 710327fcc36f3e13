"""Score and time exported files of fewer bits beside float32, dense and pruned, on the CPU.

    python tools/benchmarks/precisions.py CHECKPOINT DENSE_CONFIG PRUNED_CONFIG --images FOLDER --json rows.json

Every config is exported to ONNX and OpenVINO in fp32, fp16 and int8 (ranges from the first images of FOLDER), each file
is evaluated by tools/test.py on the config's test data, and all run on one image of FOLDER in turns, beside eager
PyTorch. A file that cannot be made is named and left out.

Shapes: h x w pixels.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mmcv_custom import Predictor
from mmcv_custom.benchmark.timing import add_rounds, of_forms, quartiles, speedup
from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.cli.subprocess_tools import test
from mmcv_custom.data.synthetic import default_shape
from mmcv_custom.errors import ConfigError, UserError
from mmcv_custom.export import ExportedModel, trace_model
from mmcv_custom.export.formats import FORMATS, PRECISIONS
from mmcv_custom.inference.export import MOST, about, inputs, loaded
from mmcv_custom.results import row, write_json
from mmcv_custom.tasks import task_of

EAGER = "eager"
RUNTIMES = ("onnx", "openvino")


@dataclass(frozen=True)
class Form:
    """One file, or eager PyTorch.

    Attributes:
        config: path.
        method: of the config; None if it is dense.
        runtime: "eager" or a format.
        precision: of the file.
        model: what tools/test.py evaluates: the checkpoint or the file.
        call: runs it on one image.
        gmacs: of one image.
        bytes: of the file; None for eager PyTorch.
    """

    config: str
    method: str | None
    runtime: str
    precision: str
    model: str
    call: Callable[[], object]
    gmacs: float
    bytes: int | None = None

    @property
    def name(self) -> str:
        """Such as "ToMe, onnx int8"."""
        return f"{self.method or 'dense'}, {self.runtime} {self.precision}"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="weights of all configs")
    parser.add_argument("configs", nargs="+", help="the first one is what all others are compared with")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="images that are timed and calibrate int8")
    parser.add_argument("--shape", nargs=2, type=int, metavar=("H", "W"), help="input (default: the model's own)")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, help="default: both")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="default: all")
    parser.add_argument("--test-images", type=int, metavar="N", help="evaluate on the first N (default: all)")
    add_rounds(parser, 11)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    return parser.parse_args()


def forms_of(config: str, args: argparse.Namespace, folder: Path) -> list[Form]:
    """Return every form of a config, its files written below ``folder``."""
    predictor = Predictor(config, args.checkpoint)
    size = tuple(args.shape or default_shape(predictor.model))
    images = inputs(predictor, loaded(args.images, size, MOST, 1))
    ready, found = trace_model(predictor.model, images[0]), []
    gmacs = ready.metadata["gmacs"]
    chosen = dict(calibration=images, check=images[1:2], tolerance=float("inf"), more=about(predictor))
    for runtime in args.runtimes:
        for precision in args.precisions:
            path = folder / f"{Path(config).stem}-{precision}-{runtime}{FORMATS[runtime].suffix}"
            try:
                FORMATS[runtime].check(precision)
                done = ready.write(path, runtime, precision=precision, **chosen)
            except UserError as error:
                print(f"Note: {path.stem} is left out: {error}", file=sys.stderr, flush=True)
                continue
            print(done.summary(), flush=True)
            file = partial(ExportedModel(path), images[0])
            bytes_ = sum(part.stat().st_size for part in folder.glob(f"{path.stem}.*"))
            found.append(Form(config, predictor.method, runtime, precision, str(path), file, gmacs, bytes_))
    if not found:
        raise ConfigError(f"no file of {config} could be made: the notes above say why")
    eager = partial(ready.graph, images[0])
    return [Form(config, predictor.method, EAGER, "fp32", args.checkpoint, eager, gmacs), *found]


@torch.no_grad()
def main() -> None:
    args = parse_args()
    some = [] if args.test_images is None else [f"test_dataloader.dataset.indices={args.test_images}"]
    with tempfile.TemporaryDirectory(prefix="precisions-") as name:
        folder = Path(name)
        forms = [form for config in args.configs for form in forms_of(config, args, folder)]
        ms = of_forms({form.name: form.call for form in forms}, args.rounds)
        rows = [
            row(
                form=form.name,
                runtime=form.runtime,
                precision=form.precision,
                method=form.method,
                config=form.config,
                checkpoint=args.checkpoint,
                test_images=args.test_images,
                device="cpu",
                batch=1,
                rounds=args.rounds,
                gmacs=form.gmacs,
                megabytes=None if form.bytes is None else form.bytes / 1e6,
                **test(form.config, form.model, folder / "test", folder / "scores.json", some),
                ms=statistics.median(ms[form.name]),
                ms_quartiles=quartiles(ms[form.name]),
                **speedup(ms[forms[0].name], ms[form.name], "eager_dense"),
            )
            for form in forms
        ]
    fields = task_of(read_config(args.configs[0])).metric.scores
    for one in rows:
        scores = ", ".join(f"{field} {one[field]:.3f}" for field in fields)
        print(f"{one['form']:<28}{scores}  {one['ms']:8.1f} ms  {one['speedup_vs_eager_dense']:.2f}x eager dense")
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
