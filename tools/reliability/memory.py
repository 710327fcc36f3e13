"""Run thousands of images of changing sizes through models, or through the web page, and measure the growth of memory.

    python tools/reliability/memory.py --images 2000 --json rows.json
    python tools/reliability/memory.py --images 2000 --web --json rows.json

Growth is the slope of the process's own memory, resident or swapped out, over the last two thirds of the images,
fitted by least squares: libraries fill their own caches first. Every image has a size of its own (but those of a
classifier with a fixed one), so that a cache by size without a limit shows. Besides, the tensors that are alive are
counted at the same moments.
Weights are random.

Shapes: h x w pixels of an image.
"""

import argparse
import gc
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from growth import MODELS, growth, private_mb, sizes
from rows import write_rows
from serving import serving, upload

from mmcv_custom.cli.launch import run
from mmcv_custom.data.synthetic import scene
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.inference import Predictor
from mmcv_custom.results import row

ROOT = Path(__file__).resolve().parents[2]
POINTS = 40  # moments at which memory is read


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="per model (default: 2000)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--web", action="store_true", help="send them to tools/web_demo, which serves the models")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop earlier, after M minutes per model")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    args = parser.parse_args()
    if args.images < POINTS:
        raise ConfigError(f"--images {args.images} is too few to see growth: give {POINTS} or more")
    return args


def live_tensors() -> int:
    """Return how many tensors Python holds."""
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def measure(step: Callable[[int], object], args: argparse.Namespace, process: int | str = "self") -> dict:
    """Call ``step(i)`` for every image until the time is over, and return the fields of a row about memory."""
    memory, tensors = [], []
    end = time.monotonic() + 60 * (args.minutes or math.inf)
    for i in range(args.images):
        step(i)
        if (i + 1) % max(args.images // POINTS, 1) == 0:
            if len(memory) > 5 and time.monotonic() > end:
                break
            memory.append((i + 1, private_mb(process)))
            if process == "self":
                tensors.append((i + 1, float(live_tensors())))
    fields = dict(
        images=memory[-1][0], start_mb=memory[len(memory) // 3][1], end_mb=memory[-1][1], growth_mb=growth(memory)
    )
    return fields | (dict(growth_tensors=growth(tensors)) if tensors else {})


def through_model(config: str, args: argparse.Namespace) -> dict:
    """Run images through the model of a config and return the fields of a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights
        predictor = Predictor(ROOT / config)
    every = sizes(args.images)
    try:
        predictor(scene(*every[0]))
    except DataError:  # it takes one size only
        every = [predictor.input_size()] * args.images

    def step(i: int) -> None:
        predictor(scene(*every[i], seed=i % 8))

    fields = measure(step, args)
    return fields | dict(sizes=len({*every[: fields["images"]]}))


def through_web(configs: list[str], args: argparse.Namespace) -> dict:
    """Send images to the web page and return the fields of a row about the server's memory."""
    every, names = sizes(args.images), [Path(config).stem for config in configs]
    with serving([ROOT / config for config in configs], "--timing-ms", "0") as server:

        def step(i: int) -> None:
            status, _ = server.run(upload(*every[i], i), names[i % len(names)])
            if status != 200:
                raise ConfigError(f"image {i} of {every[i]} pixels was answered with status {status}")

        fields = measure(step, args, server.process)
    return fields | dict(sizes=len({*every[: fields["images"]]}))


def main() -> None:
    args = parse_args()
    configs = {name: MODELS[name] for name in args.models}
    if args.web:
        found = {"web page: " + ", ".join(configs): through_web(list(configs.values()), args)}
    else:
        found = {f"{name} {Path(config).stem}": through_model(config, args) for name, config in configs.items()}
    rows = [row(kind="memory", what=what, **fields) for what, fields in found.items()]
    for one in rows:
        print(
            f"{one['what']}: {one['images']} images of {one['sizes']} sizes, {one['start_mb']:.0f} to "
            f"{one['end_mb']:.0f} MB, {one['growth_mb']:+.2f} MB per 1,000 images"
        )
    write_rows(args.json, rows)


if __name__ == "__main__":
    run(main)
