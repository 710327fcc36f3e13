"""Run the CPU operator under AddressSanitizer and UndefinedBehaviorSanitizer on random calls, and compare its results.

    make sanitize                                           # or:
    python tools/reliability/sanitize.py --cases 4000 --json rows.json

Every case runs on each instruction set that the operator has and this processor knows. Results must equal those of
plain PyTorch in float64; a call with an argument that does not fit must be refused with a message. The cases are in
``deformable_cases.py``. Needs g++ with libasan and libubsan (on Debian: apt-get install g++).

Shapes: as in ``deformable_cases.py``.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from deformable_cases import Case, make_case
from rows import write_rows
from torch import Tensor
from torch.utils import cpp_extension

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row
from token_pruning_ops import build, reference

HERE = Path(__file__).resolve().parent
SETS = ("baseline", "avx2", "avx512")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-fPIC")
# Names and errors of what is compared, and the largest error in units of the type's resolution and the largest number.
PARTS = ("output", "gradient of value", "gradient of points", "gradient of weights")
UNITS = 64


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=4000, metavar="N", help="random calls (default: 4000)")
    parser.add_argument("--optimize", type=int, choices=(0, 1, 2, 3), default=1, help="level of g++ (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="write the row to FILE")
    args = parser.parse_args()
    if args.cases < 1:
        raise ConfigError(f"--cases {args.cases} runs nothing: give 1 or more")
    return args


def missing() -> str | None:
    """Return what this machine lacks, or None."""
    if sys.platform != "linux":
        return "the sanitizers' libraries are preloaded, which this does on Linux only"
    if not shutil.which("g++"):
        return "there is no g++; on Debian: apt-get install g++"
    lacking = [name for name in ("libasan.so", "libubsan.so") if not _runtime(name)]
    return f"g++ has no {' and no '.join(lacking)}" if lacking else None


def _runtime(name: str) -> Path | None:
    """Return the path of a library of the compiler; g++ repeats the name of one that it does not have."""
    said = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return Path(said) if os.path.isabs(said) else None


def compile_library(folder: Path, level: int) -> Path:
    """Compile the operator's CPU sources with both sanitizers into ``folder``; raise ConfigError if that fails."""
    flags = [flag for flag in build.CXX_FLAGS if flag not in ("-O3", "-g0")]
    include = [part for path in cpp_extension.include_paths() for part in ("-isystem", path)]
    compilers = []
    for name in build.SOURCES["cpu"]:
        target = folder / f"{Path(name).stem}.o"
        command = ["g++", *flags, f"-O{level}", *SANITIZERS, "-w", *include, "-c", build.HERE / "src" / name]
        compilers.append((target, command))
    for target, command in compilers:
        _compile([*command, "-o", target])
    library = folder / "sanitized.so"
    places = [f"-L{path}" for path in cpp_extension.library_paths()]
    libraries = ["-ltorch_cpu", "-ltorch", "-lc10"]
    _compile(["g++", "-shared", SANITIZERS[0], *(t for t, _ in compilers), "-o", library, *places, *libraries])
    return library


def _compile(command: list) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"g++ failed: {done.stderr.strip()[-1500:]}")


def run_cases(library: Path, cases: int, folder: Path) -> dict[str, list]:
    """Return instruction set -> outcomes of all cases.

    Raises:
        ConfigError: a sanitizer found an error; the message ends with its report.
    """
    preload = ":".join(str(_runtime(name)) for name in ("libasan.so", "libubsan.so"))
    # Python never frees some of its memory, which is not the operator's. MSDA_ISA is set for each fork.
    options = dict(ASAN_OPTIONS="detect_leaks=0:abort_on_error=0", UBSAN_OPTIONS="print_stacktrace=1")
    env = dict(os.environ, LD_PRELOAD=preload, OMP_NUM_THREADS="1", **options)
    command = [sys.executable, HERE / "deformable_cases.py", library, cases, folder, *SETS]
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"the sanitized operator failed: {done.stderr.strip()[-4000:]}")
    return {path.stem: torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))}


def expected(case: Case) -> list[Tensor]:
    """Return what ``deformable_cases.outcome`` must be, in float64 from coordinates in the operator's own type."""
    exact = torch.float64 if case.value.dtype == torch.float64 else torch.float32
    shapes = list(zip(case.shapes[::2], case.shapes[1::2], strict=True))
    sizes = torch.tensor([(w, h) for h, w in shapes], dtype=exact).view(-1, 1, 2)
    queries, value = len(case.points), case.value.double().detach().requires_grad_()
    points = case.points.to(exact).detach().requires_grad_()
    weights = raw = case.weights.double().detach().requires_grad_()
    if case.reference is None:
        pixels = points * sizes - 0.5
    else:
        rows = case.reference.repeat(queries // max(len(case.reference), 1), 1, 1)
        pixels = points + (rows[:, None, :, None] * sizes - 0.5)
        weights = raw.flatten(2).softmax(-1).view(raw.shape) if raw.numel() else raw
    images = case.images
    if images is None:
        images = torch.arange(queries) // max(queries // max(len(value), 1), 1)
    out = reference.sample(value, shapes, pixels.double(), weights, images.clamp(-1, len(value)).long())
    inputs = (value, points, raw)
    gradients = torch.autograd.grad(out, inputs, case.grad.double(), allow_unused=True)
    found = [out.detach(), *(torch.zeros_like(t) if g is None else g for g, t in zip(gradients, inputs, strict=True))]
    # The gradient of a point jumps where a pixel begins, so rounding decides there.
    near = ((pixels - pixels.round()).abs() < 1e-3).any(-1, keepdim=True)
    found[2] = found[2].double().masked_fill(near, torch.nan)
    return found


def faults_of(case: Case, sets: dict[str, list[Tensor] | str]) -> list[str]:
    """Return a sentence on each outcome of a case that is not what it must be."""
    if case.fault:
        return [f"{case.fault} was not refused on {name}" for name, got in sets.items() if not isinstance(got, str)]
    wanted, found = expected(case), []
    for name, got in sets.items():
        if isinstance(got, str):
            found.append(f"a valid call was refused on {name}: {got}")
            continue
        # Where values or weights are not finite, only the output is compared: gradients are products with them.
        for part, a, b in list(zip(PARTS, got, wanted, strict=True))[: None if case.sound else 1]:
            error = _error(a, b, skip_nan=part == PARTS[2])
            if error > UNITS:
                found.append(f"{part} on {name} is wrong by {error:.3g} units")
    return found


def _error(got: Tensor, wanted: Tensor, skip_nan: bool) -> float:
    """Return the largest error in units of the resolution of ``got`` at the largest number; inf for shapes or NaN."""
    resolution, got = torch.finfo(got.dtype), got.double()
    if got.shape != wanted.shape:
        return float("inf")
    if skip_nan:
        got = got.where(~wanted.isnan(), torch.nan)
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    # A sum above the type's largest number is infinite in one of them only.
    beyond = (wanted.abs() > resolution.max) & got.isinf()
    error = (got - wanted).abs().masked_fill(same | beyond, 0)
    if not error.numel():
        return 0.0
    if not error.isfinite().all():
        return float("inf")
    largest = wanted[wanted.isfinite()].abs().amax().item() if wanted.isfinite().any() else 0.0
    return error.max().item() / (resolution.eps * max(largest, 1.0))


def main() -> None:
    args = parse_args()
    if reason := missing():
        raise ConfigError(f"the operator cannot be sanitized here: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_cases(compile_library(Path(folder), args.optimize), args.cases, Path(folder))
    wrong = []
    for seed in range(args.cases):
        case = make_case(seed)
        wrong += [f"case {seed}: {text}" for text in faults_of(case, {name: o[seed] for name, o in outcomes.items()})]
    refused = sum(make_case(seed).fault is not None for seed in range(args.cases))
    for text in wrong[:20]:
        print(text)
    print(f"{args.cases} cases ({refused} invalid) on {', '.join(outcomes)}: no report, {len(wrong)} wrong results")
    fields = dict(kind="sanitizer", what=f"deformable attention on {', '.join(outcomes)}", cases=args.cases)
    write_rows(args.json, [row(**fields, refused=refused, faults=len(wrong))])
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
