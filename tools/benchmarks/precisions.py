"""Score and time exported files of fewer bits beside float32, dense and pruned, on the CPU.

    python tools/benchmarks/precisions.py CHECKPOINT DENSE_CONFIG PRUNED_CONFIG --images FOLDER --json rows.json

Every config is exported to ONNX and OpenVINO in fp32, fp16 and int8 (ranges from the first images of FOLDER), each file
is evaluated by tools/test.py on the config's test data, and all run on one image of FOLDER in turns, beside eager
PyTorch. A file that cannot be made is named and left out.

Shapes: h x w pixels.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmcv_custom import Predictor
from mmcv_custom.benchmark.timing import of_forms, quartiles, speedup
from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.cli.subprocess_tools import ROOT, call
from mmcv_custom.errors import ConfigError, UserError
from mmcv_custom.export import ExportedModel
from mmcv_custom.export.formats import FORMATS, PRECISIONS
from mmcv_custom.export.graphs import graph_of, normalised
from mmcv_custom.export.metadata import normalisation
from mmcv_custom.inference.export import export, loaded
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
        gmacs: of one image; None for eager PyTorch.
        bytes: of the file.
    """

    config: str
    method: str | None
    runtime: str
    precision: str
    model: str
    call: Callable[[], object]
    gmacs: float | None = None
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
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="timed rounds, at least 2 (default: 11)")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    if args.rounds < 2:
        raise ConfigError("--rounds must be at least 2 (quartiles need them)")
    return args


def forms_of(config: str, args: argparse.Namespace, folder: Path) -> list[Form]:
    """Return every form of a config, its files written below ``folder``."""
    predictor = Predictor(config, args.checkpoint)
    found = []
    for runtime in args.runtimes:
        for precision in args.precisions:
            method = predictor.method
            path = folder / f"{Path(config).stem}-{precision}-{runtime}{FORMATS[runtime].suffix}"
            chosen = dict(shape=args.shape, images=args.images, calibrate=args.images, precision=precision)
            try:
                done = export(predictor, path, runtime, tolerance=float("inf"), **chosen)
            except UserError as error:
                print(f"Note: {path.stem} is left out: {error}", file=sys.stderr, flush=True)
                continue
            print(done.summary(), flush=True)
            file = ExportedModel(path)
            image = image_for(predictor, args.images, file.size)
            size = sum(part.stat().st_size for part in folder.glob(f"{path.stem}.*"))
            gmacs = done.metadata["gmacs"]
            found.append(Form(config, method, runtime, precision, str(path), partial(file, image), gmacs, size))
    if not found:
        raise ConfigError(f"no file of {config} could be made: the notes above say why")
    eager = partial(graph_of(predictor.model), image)
    return [Form(config, method, EAGER, "fp32", args.checkpoint, eager, gmacs), *found]


def image_for(predictor: Predictor, folder: str, size: tuple[int, int]) -> Tensor:
    """Return the first image of the folder as (1, 3, h, w)."""
    (array,) = loaded(folder, size, 1, 1)
    images = torch.from_numpy(array.copy()).permute(2, 0, 1)[None]
    return normalised(images, normalisation(predictor.model.data_preprocessor))


def scores_of(form: Form, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the scores of a form under the row fields of its task."""
    scores = folder / "scores.json"
    some = [] if args.test_images is None else [f"test_dataloader.dataset.indices={args.test_images}"]
    options = ["--cfg-options", *some] if some else []
    command = (ROOT / "tools/test.py", form.config, form.model, "--work-dir", folder / "test", "--scores", scores)
    call(*command, *options)
    found = json.loads(scores.read_text())
    return {field: found[name] for field, name in task_of(read_config(form.config)).metric.scores.items()}


@torch.no_grad()
def main() -> None:
    args = parse_args()
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
                **scores_of(form, args, folder),
                ms=statistics.median(ms[form.name]),
                ms_quartiles=quartiles(ms[form.name]),
                **speedup(ms[forms[0].name], ms[form.name], "eager_dense"),
            )
            for form in forms
        ]
    for one in rows:
        scores = ", ".join(f"{field} {one[field]:.3f}" for field in task_of(read_config(one["config"])).metric.scores)
        print(f"{one['form']:<28}{scores}  {one['ms']:8.1f} ms  {one['speedup_vs_eager_dense']:.2f}x eager dense")
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
