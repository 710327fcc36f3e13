"""Time deformable attention against other implementations, interleaved, at ViT-Adapter's sizes for 800 x 1344 images.

    python tools/benchmarks/deformable_attention.py --device cpu --json rows.json

Every path starts from the same reference points, raw offsets and raw logits, as in a model. There is one row per case,
type and pass: ``ms`` (median), ``speedup_vs_grid_sample``, on CPU ``speedup_vs_embedding_bag`` (our plain PyTorch
path), on CUDA ``speedup_vs_mmcv`` if MMCV's operator is compiled. A speed-up is the median of the ratios of
neighbouring measurements, ``..._quartiles`` are their quartiles.
``memory_floor_ms``: time to read and write every input and output once, at the copy rate measured in the same run.
``l2_bound_ms`` (CUDA, forward): time to read every row that a bilinear corner reads, at an assumed L2 rate of 6 TB/s.
On CUDA a path is captured once and replayed (``launch`` "graph"), so that kernels are timed and not their launches;
``ms_eager`` is the time of a call of our operator from Python.
In 16 bit, grid_sample gets everything in float32, because there it is wrong in 16 bit, and MMCV float16 for bfloat16.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from mmcv_custom.benchmark.timing import back_to_back, compare
from mmcv_custom.cli.launch import run
from mmcv_custom.results import row, write_json
from token_pruning_ops import baselines, library, reference
from token_pruning_ops.functional import deformable_attention
from token_pruning_ops.library import plain

POINTS, HEADS = 4, 6
VIT, PRIOR = [(50, 84)], [(100, 168), (50, 84), (25, 42)]  # stride 16; strides 8, 16, 32
# name -> (channels per head, levels of the values, levels of the queries)
CASES = {
    "ViT-Adapter-S injector": (64, PRIOR, VIT),
    "ViT-Adapter-S extractor": (64, VIT, PRIOR),
    "ViT-Adapter-T injector": (32, PRIOR, VIT),
    "ViT-Adapter-T extractor": (32, VIT, PRIOR),
}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
L2_BYTES_PER_SECOND = 6e12


def inputs(case: str, dtype: torch.dtype, device: str, batch: int) -> tuple:
    """Return value, shapes, reference points (cell centres), offsets (normal, sigma 2 pixels) and logits."""
    dim, shapes, query_levels = CASES[case]
    torch.manual_seed(0)
    grids = [
        torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij") for h, w in query_levels
    ]
    points = torch.cat([torch.stack([x, y], -1).flatten(0, 1) for y, x in grids])[None, :, None]
    queries, levels = points.shape[1], len(shapes)
    value = torch.randn(batch, sum(h * w for h, w in shapes), HEADS, dim)
    offsets = 2 * torch.randn(batch, queries, HEADS, levels, POINTS, 2)
    logits = torch.randn(batch, queries, HEADS, levels * POINTS)
    return (value.to(device, dtype), shapes, points.to(device), offsets.to(device, dtype), logits.to(device, dtype))


def paths(device: str, dtype: torch.dtype) -> dict[str, Callable[..., Tensor]]:
    """Return name -> function with the arguments of ``deformable_attention``; the first is the compiled operator."""

    def embedding_bag(*args):
        with plain():
            return deformable_attention(*args)

    def cast(function, to):
        def call(value, shapes, points, offsets, logits):
            return baselines.from_raw(function, value.to(to), shapes, points.to(to), offsets.to(to), logits.to(to))

        return call

    found = {"compiled": deformable_attention, "grid_sample": cast(reference.by_grid_sample, torch.float32)}
    if device == "cpu":
        found["embedding_bag"] = embedding_bag
    else:
        try:
            found["mmcv"] = cast(baselines.mmcv_operator(), torch.float32 if dtype == torch.float32 else torch.float16)
        except ImportError as error:
            print(f"MMCV's operator is not timed: {error}", file=sys.stderr)
    return found


def passes(function: Callable[..., Tensor], args: tuple) -> dict[str, Callable[[], None]]:
    """Return the timed calls of one path: the forward, and the forward with all three gradients."""
    value, shapes, points, offsets, logits = args
    leaves = [t.detach().clone().requires_grad_() for t in (value, offsets, logits)]
    with torch.no_grad():
        grad = torch.randn_like(function(*args))

    def forward():
        with torch.no_grad():
            function(*args)

    def forward_backward():
        function(leaves[0], shapes, points, *leaves[1:]).backward(grad)
        for leaf in leaves:
            leaf.grad = None

    return dict(forward=forward, forward_backward=forward_backward)


def graphed(run: Callable[[], None]) -> Callable[[], None]:
    """Capture ``run`` as a CUDA graph and return its replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def copy_rate(device: str) -> float:
    """Return the bytes per second of a large copy, reads and writes counted."""
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    fastest = min(back_to_back(lambda: target.copy_(source), torch.device(device), 5) for _ in range(5))
    return 2 * source.numel() / 1e-3 / fastest


def bounds(args: tuple, pass_: str, rate: float, device: str) -> dict[str, float]:
    """Return lower bounds of the time of any implementation, in milliseconds."""
    value, _, _, offsets, logits = args
    rows = logits.numel() * 4
    out = offsets.shape[0] * offsets.shape[1] * HEADS * value.shape[-1] * value.element_size()
    once = sum(t.numel() * t.element_size() for t in (value, offsets, logits)) + out
    if pass_ != "forward":  # the inputs and the gradient of the output again, and the gradients of the inputs
        once = 3 * once - out
    found = dict(memory_floor_ms=1e3 * once / rate)
    if device == "cuda" and pass_ == "forward":
        found["l2_bound_ms"] = 1e3 * rows * value.shape[-1] * value.element_size() / L2_BYTES_PER_SECOND
    return found


def measure(case: str, dtype: str, device: str, batch: int, rounds: int, rate: float) -> list[dict]:
    """Return the rows of one case and type."""
    args = inputs(case, TYPES[dtype], device, batch)
    runs = {name: passes(function, args) for name, function in paths(device, TYPES[dtype]).items()}
    rows = []
    for pass_ in ("forward", "forward_backward"):
        found = dict(case=case, dtype=dtype, **{"pass": pass_}, batch=batch, device=device)
        calls = {name: run[pass_] for name, run in runs.items()}
        if device == "cuda":
            eager = calls["compiled"]
            calls = {name: graphed(run) for name, run in calls.items()}
            found |= dict(launch="graph", ms_eager=min(back_to_back(eager, torch.device(device), 20) for _ in range(5)))
        found |= compare(calls, torch.device(device), rounds)
        found |= bounds(args, pass_, rate, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            runs["compiled"][pass_]()
            found["peak_mb"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        rows.append(row(**found))
        print(
            f"{case:<24} {dtype:<9} {pass_:<17} {found['ms']:8.3f} ms  "
            + "  ".join(f"{found[f'speedup_vs_{name}']:5.1f}x {name}" for name in list(runs)[1:]),
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument(
        "--types",
        nargs="+",
        choices=TYPES,
        metavar="TYPE",
        help="float32, bfloat16, float16 (default: the first two, on CUDA all)",
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved measurements of each path (default: 15)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    args = parser.parse_args()
    if args.rounds < 1 or args.batch < 1:
        parser.error("--rounds and --batch must be at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    if args.device in library.MISSING:
        parser.error(f"there is no compiled library for {args.device}: {library.MISSING[args.device]}")
    if args.threads:
        torch.set_num_threads(args.threads)
    rate = copy_rate(args.device)
    rows = []
    for case in args.cases:
        for dtype in args.types or list(TYPES)[: 2 if args.device == "cpu" else 3]:
            rows += measure(case, dtype, args.device, args.batch, args.rounds, rate)
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    run(main)
