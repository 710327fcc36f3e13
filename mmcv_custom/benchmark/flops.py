"""What a forward computed, by part of the net: operations (a multiply-add is 2), and tokens by block.

Shapes: B images, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from token_pruning import Reducer, Trace
from token_pruning.analysis.flops import FORMULAS, block_flops
from token_pruning.analysis.trace import PassTrace
from token_pruning.attention import WindowAttention

PARTS = ("blocks", "reducer", "rest of backbone", "neck", "heads")
HOOKS = ("start", "before_block", "after_attention", "after_block", "restore")


@dataclass
class Count:
    """Of one forward.

    Attributes:
        total: operations; ``parts`` (by ``PARTS``) and ``operators`` (by ATen name) split it. What a method computes to
            decide (selectors, the matching of tokens) is the part "reducer".
        formula: what the closed formula says that the blocks compute on the tokens that were traced.
        tokens: (B, L) tokens of each image in each block, ``positions`` of them on the whole map; of a window that
            slides over the image, summed over its places.
        kept: (B, L) fraction of the grid tokens that each block computed.
    """

    total: int
    parts: dict[str, int]
    operators: dict[str, int]
    formula: int
    tokens: torch.Tensor
    positions: int
    kept: torch.Tensor


def count(forward: Callable[[], object], model: nn.Module) -> Count:
    """Run and count ``forward``, which calls ``model`` (a detector, segmentor, classifier, or its backbone alone)."""
    backbone = getattr(model, "backbone", model)
    with (
        torch.no_grad(),
        Trace() as trace,
        FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter,
        _metered(backbone.reducer, counter) as decided,
    ):
        forward()
    root = type(model).__name__ + (".backbone" if backbone is not model else "")
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    total, whole = by_module["Global"], by_module[root]
    below = _outermost(by_module, root)
    selectors = sum(n for name, n in below.items() if name.startswith(f"{root}.reducer."))
    # Attention is a function: what the backbone computes outside all of its modules, nor for its reducer, is that of
    # the blocks.
    outside = whole - sum(below.values()) - (sum(decided) - selectors)
    blocks = sum(n for name, n in below.items() if name.startswith(f"{root}.blocks.")) + outside
    neck = by_module.get(f"{type(model).__name__}.neck", 0)
    rest = whole - blocks - sum(decided)
    parts = dict(zip(PARTS, (blocks, sum(decided), rest, neck, total - whole - neck), strict=True))
    operators = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    tokens = [torch.stack([seen.used[i].sum(1) for i in seen.blocks], dim=1).cpu() for seen in trace.passes]
    formula = sum(_formula(backbone, seen, own) for seen, own in zip(trace.passes, tokens, strict=True))
    positions = sum(next(iter(seen.used.values())).shape[1] for seen in trace.passes)
    sizes = [seen.grid[0] * seen.grid[1] for seen in trace.passes]
    kept = sum(seen.keep_ratio().cpu() * size for seen, size in zip(trace.passes, sizes, strict=True)) / sum(sizes)
    return Count(total, parts, operators, formula, sum(tokens), positions, kept)


@contextmanager
def wrapped_hooks(reducer: Reducer | None, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """In the body, every moment of the reducer is ``wrap(hook)``."""
    hooks = HOOKS if reducer is not None else ()
    for name in hooks:
        setattr(reducer, name, wrap(getattr(reducer, name)))
    try:
        yield
    finally:
        for name in hooks:
            delattr(reducer, name)


@contextmanager
def _metered(reducer: Reducer | None, counter: FlopCounterMode) -> Iterator[list[int]]:
    """The operations of every call of one of the reducer's moments in the body, its modules included."""
    found: list[int] = []

    def metered(hook: Callable) -> Callable:
        def run(*args, **kwargs):
            before = counter.get_total_flops()
            result = hook(*args, **kwargs)
            found.append(counter.get_total_flops() - before)
            return result

        return run

    with wrapped_hooks(reducer, metered):
        yield found


def _outermost(by_module: dict[str, int], root: str) -> dict[str, int]:
    """Those of the called modules below ``root`` that no other of them contains."""
    found: dict[str, int] = {}
    for name in sorted(name for name in by_module if name.startswith(f"{root}.")):
        if not any(name.startswith(f"{other}.") for other in found):
            found[name] = by_module[name]
    return found


def _formula(vit: nn.Module, seen: PassTrace, tokens: torch.Tensor) -> int:
    """The blocks' operations; a windowed block attends on the map padded to whole windows."""
    total = 0
    for column, i in enumerate(seen.blocks):
        block = vit.blocks[i]
        # Of an MLP of two matrices its hidden width; SwiGLU has three.
        mlp = sum(part.weight.numel() for part in block.mlp.modules() if isinstance(part, nn.Linear))
        ratio = mlp / (2 * vit.embed_dim**2)
        left = seen.left[i].sum(1).tolist() if i in seen.left else tokens[:, column].tolist()
        for n, remain in zip(tokens[:, column].tolist(), left, strict=True):
            total += block_flops(n, vit.embed_dim, ratio, remain)
            if isinstance(block.attn, WindowAttention):
                size = block.attn.window_size
                windows = -(-seen.grid[0] // size) * -(-seen.grid[1] // size)
                total += 4 * vit.embed_dim * (windows * size**4 - n * n)
    return total
