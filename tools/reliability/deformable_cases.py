"""Random calls of the deformable-attention operator, valid and invalid, and their outcomes on each instruction set.

``sanitize.py`` runs this file in a process that has loaded the sanitizers' runtime libraries, so it needs nothing but
torch. Its arguments are the library, the number of cases, a folder and the instruction sets; it writes FOLDER/ISA.pt
with the outcomes of all cases on each set.

Shapes: B images, S positions of all levels, T queries of all images, M heads, D channels of a head, L levels, P points.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Around the number of channels that a register holds, for every size of registers and elements.
CHANNELS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 129)
FAR = (1e4, -1e4, 2.0**31, -(2.0**31), 1e18, -1e30, float("inf"), -float("inf"), float("nan"))


class Case(NamedTuple):
    """Arguments of one call; ``sound`` if all numbers but coordinates are finite, ``fault`` if it must be refused."""

    value: Tensor  # (B, S, M, D)
    reference: Tensor | None  # (T or a divisor, 1 or L, 2)
    points: Tensor  # (T, M, L, P, 2)
    weights: Tensor  # (T, M, L, P)
    shapes: list[int]
    images: Tensor | None  # (T,) int32
    grad: Tensor  # (T, M * D)
    sound: bool
    fault: str | None


class Draw:
    """Random numbers of one case."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def integer(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def one_of(self, values):
        return values[self.integer(0, len(values) - 1)]

    def chance(self, share: float) -> bool:
        return float(torch.rand((), generator=self.generator)) < share

    def normal(self, *size: int, dtype=torch.float32) -> Tensor:
        """Return normal numbers (size), sometimes in a layout that is not contiguous."""
        layout = self.integer(0, 3)
        if layout == 1 and size:  # every second element of a longer row
            return torch.randn(*size[:-1], 2 * size[-1], generator=self.generator).to(dtype)[..., ::2]
        if layout == 2 and len(size) > 1:  # the first two dimensions swapped
            return torch.randn(size[1], size[0], *size[2:], generator=self.generator).to(dtype).transpose(0, 1)
        if layout == 3 and size and size[0]:  # one row for all
            return torch.randn(1, *size[1:], generator=self.generator).to(dtype).expand(*size)
        return torch.randn(*size, generator=self.generator).to(dtype)

    def spoil(self, tensor: Tensor, numbers: tuple[float, ...], share: float) -> Tensor:
        """Return a copy in which about ``share`` of the elements are some of ``numbers``."""
        places = torch.rand(tensor.shape, generator=self.generator) < share
        chosen = torch.randint(len(numbers), tensor.shape, generator=self.generator)
        return torch.where(places, torch.tensor(numbers, dtype=torch.float64)[chosen].to(tensor.dtype), tensor)


def make_case(seed: int) -> Case:
    """Return the case of a seed: every eighth is invalid, every third has far or missing coordinates."""
    draw = Draw(seed)
    dtype = draw.one_of(TYPES)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    kind = draw.one_of((exact, dtype))
    batch, levels = draw.integer(0, 3) or 1, draw.integer(0, 4)
    heads, points, channels = draw.integer(0, 4), draw.integer(0, 4), draw.one_of(CHANNELS)
    each = draw.integer(64, 150) if draw.chance(0.1) else draw.integer(0, 9)
    if draw.chance(0.04):
        batch = each = 0
    if draw.chance(0.04):
        channels = 512
    sides = [draw.integer(1, 40 if draw.chance(0.1) else 7) for _ in range(2 * levels)]
    positions, queries = sum(h * w for h, w in zip(sides[::2], sides[1::2], strict=True)), batch * each
    value = draw.normal(batch, positions, heads, channels, dtype=dtype)
    offsets = draw.normal(queries, heads, levels, points, 2, dtype=kind)
    logits = draw.normal(queries, heads, levels, points, dtype=kind)
    reference = images = None
    if draw.chance(0.6):
        rows = draw.one_of([n for n in (1, each, queries) if n and queries % n == 0] or [queries])
        reference = draw.normal(rows, draw.one_of((1, levels)), 2, dtype=exact).abs().fmod(1)
    else:
        offsets = offsets * 0.5 + 0.5
    if draw.chance(0.5):  # images that do not exist among them
        images = torch.randint(-2, batch + 2, (queries,), generator=draw.generator, dtype=torch.int32)
        images = draw.spoil(images, (2**31 - 1, -(2**31)), 0.05) if draw.chance(0.2) else images
    if draw.chance(1 / 3):
        offsets = draw.spoil(offsets, FAR, 0.2)
    sound = not draw.chance(0.1)
    if not sound:
        value, logits = draw.spoil(value, FAR[-3:], 0.05), draw.spoil(logits, FAR[-3:], 0.05)
    grad = draw.normal(queries, heads * channels, dtype=dtype)
    case = Case(value, reference, offsets, logits, sides, images, grad, sound, None)
    return _break(case, draw) if draw.chance(1 / 8) else case


def _break(case: Case, draw: Draw) -> Case:
    """Return the case with one argument that does not fit the others."""
    value, points, weights = case.value, case.points, case.weights
    queries, levels = points.shape[0], points.shape[2]
    faults = {
        "value of 3 dimensions": dict(value=value[0] if len(value) else value[..., 0]),
        "integers": dict(value=value.nan_to_num(0, 0, 0).to(torch.int32)),
        "one more position": dict(value=torch.cat([value, value.new_zeros(value.shape[0], 1, *value.shape[2:])], 1)),
        "one more head": dict(points=torch.cat([points, points.new_zeros(queries, 1, *points.shape[2:])], 1)),
        "coordinates of three numbers": dict(points=torch.cat([points, points[..., :1]], -1)),
        "one more weight": dict(weights=torch.cat([weights, weights.new_zeros(*weights.shape[:3], 1)], 3)),
        "another type of weights": dict(
            weights=weights.to(torch.float64 if weights.dtype != torch.float64 else TYPES[1])
        ),
        "a level too many": dict(shapes=[*case.shapes, 1, 1]),
        "half a level": dict(shapes=[*case.shapes, 1]),
        "images of 64 bits": dict(images=torch.zeros(queries, dtype=torch.int64)),
        "images too long": dict(images=torch.zeros(queries + 1, dtype=torch.int32)),
        "reference of three numbers": dict(reference=torch.zeros(max(queries, 1), 1, 3, dtype=TYPES[1])),
        "reference of no row": dict(reference=torch.zeros(0, 1, 2, dtype=TYPES[1]), images=None)
        if queries
        else dict(reference=torch.zeros(1, 1, 5)),
        "short gradient": dict(grad=torch.cat([case.grad, case.grad.new_zeros(1, case.grad.shape[1])])),
    }
    if levels:
        huge = [2**31 - 1, 2**31 - 1] * levels
        faults |= {
            "a negative side": dict(shapes=[-case.shapes[0], -case.shapes[1], *case.shapes[2:]]),
            "an empty side": dict(shapes=[0, *case.shapes[1:]]),
            "sides whose product overflows": dict(shapes=huge),
            "sides beyond 64 bits": dict(shapes=[2**62, 4, *case.shapes[2:]]),
        }
    name = draw.one_of(list(faults))
    return case._replace(**faults[name], fault=name)


def outcome(case: Case) -> list[Tensor] | str:
    """Return the output and the gradients of value, points and weights; the message if the call is refused."""
    arguments = (case.value, case.reference, case.points, case.weights, case.shapes, case.images)
    try:
        # Copies: what the operator returned is freed at once, so that a late access to it would be seen.
        out = torch.ops.token_pruning.ms_deform_attn(*arguments).clone()
        back = torch.ops.token_pruning.ms_deform_attn_backward(case.grad, *arguments, None)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return [out, *(gradient.clone() for gradient in back)]


def main(library: str, cases: int, folder: str, sets: list[str]) -> int:
    """Run all cases in one fork for each instruction set, because the library selects its set once."""
    torch.set_num_threads(1)
    for name in sets:
        child = os.fork()
        if child == 0:
            os.environ["MSDA_ISA"] = name
            torch.ops.load_library(library)
            if torch.ops.token_pruning.ms_deform_attn_cpu_instructions() != name:
                os._exit(0)  # this processor lacks it: no file
            torch.save([outcome(make_case(seed)) for seed in range(cases)], Path(folder, f"{name}.pt"))
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
