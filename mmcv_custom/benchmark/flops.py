"""Operations and tokens of a forward, by part of the network.

``Count`` holds FLOPs as torch counts them (a multiply-add is 2); result rows hold GMACs (a multiply-add is 1).

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
from token_pruning.host import Host, require_host

PARTS = ("blocks", "reducer", "rest of backbone", "neck", "heads")
HOOKS = ("start", "embed", "enter_block", "before_block", "after_attention", "after_mlp", "after_block", "restore")


@dataclass
class Count:
    """Operations and tokens of one forward.

    Attributes:
        total: FLOPs; ``parts`` (by ``PARTS``) and ``operators`` (by ATen name) split it. The part "reducer" is what a
            method computes to select or match tokens.
        formula: FLOPs of the blocks on the traced tokens by the closed formula.
        tokens: (B, L) tokens of each image in each block, the class token among them; with a sliding window, summed
            over its positions.
        positions: tokens of the full sequence of one image, counted like ``tokens``.
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
    """Run ``forward``, which calls ``model`` (a whole model or its backbone alone), and count it."""
    backbone = require_host(model, "counting operations")
    with (
        torch.no_grad(),
        Trace() as trace,
        FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter,
        _counted_hooks(backbone.reducer, counter) as by_call,
    ):
        forward()
    inside = next(name for name, module in model.named_modules() if module is backbone)
    root = f"{type(model).__name__}.{inside}".rstrip(".")
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    total, in_backbone, in_reducer = by_module["Global"], by_module[root], sum(by_call)
    below = _outermost(by_module, root)
    selectors = sum(n for name, n in below.items() if name.startswith(f"{root}.reducer."))
    # Attention is a function, not a module: what the backbone computes outside all of its modules and outside the
    # reducer is the attention of the blocks.
    attention = in_backbone - sum(below.values()) - (in_reducer - selectors)
    blocks = sum(n for name, n in below.items() if name.startswith(f"{root}.blocks.")) + attention
    neck = by_module.get(f"{type(model).__name__}.neck", 0)
    by_part = (blocks, in_reducer, in_backbone - blocks - in_reducer, neck, total - in_backbone - neck)
    parts = dict(zip(PARTS, by_part, strict=True))
    operators = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    tokens = [torch.stack([one.used[i].sum(1) for i in one.blocks], dim=1).cpu() for one in trace.passes]
    formula = sum(_formula(backbone, one, own) for one, own in zip(trace.passes, tokens, strict=True))
    positions = sum(next(iter(one.used.values())).shape[1] for one in trace.passes)
    sizes = [one.grid[0] * one.grid[1] for one in trace.passes]
    kept = sum(one.keep_ratio().cpu() * size for one, size in zip(trace.passes, sizes, strict=True)) / sum(sizes)
    return Count(total, parts, operators, formula, sum(tokens), positions, kept)


@contextmanager
def wrapped_hooks(reducer: Reducer | None, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Replace every hook of the reducer by ``wrap(hook)`` in the body."""
    hooks = HOOKS if reducer is not None else ()
    for name in hooks:
        setattr(reducer, name, wrap(getattr(reducer, name)))
    try:
        yield
    finally:
        for name in hooks:
            delattr(reducer, name)


@contextmanager
def _counted_hooks(reducer: Reducer | None, counter: FlopCounterMode) -> Iterator[list[int]]:
    """Yield a list that receives the FLOPs of every call of a hook of the reducer, its modules included."""
    by_call: list[int] = []

    def counted(hook: Callable) -> Callable:
        def run(*args, **kwargs):
            before = counter.get_total_flops()
            result = hook(*args, **kwargs)
            by_call.append(counter.get_total_flops() - before)
            return result

        return run

    with wrapped_hooks(reducer, counted):
        yield by_call


def _outermost(by_module: dict[str, int], root: str) -> dict[str, int]:
    """Return the called modules below ``root`` that are not inside another one of them."""
    found: dict[str, int] = {}
    for name in sorted(name for name in by_module if name.startswith(f"{root}.")):
        if not any(name.startswith(f"{other}.") for other in found):
            found[name] = by_module[name]
    return found


def _formula(vit: Host, trace: PassTrace, tokens: torch.Tensor) -> int:
    """Return the FLOPs of the blocks; a windowed block attends to the map padded to whole windows."""
    total = 0
    for column, i in enumerate(trace.blocks):
        block = vit.blocks[i]
        # The hidden width of an MLP with two matrices; SwiGLU has three.
        mlp = sum(part.weight.numel() for part in block.mlp.modules() if isinstance(part, nn.Linear))
        ratio = mlp / (2 * vit.embed_dim**2)
        in_attention = tokens[:, column].tolist()
        in_mlp = trace.left[i].sum(1).tolist() if i in trace.left else in_attention
        for n, remaining in zip(in_attention, in_mlp, strict=True):
            total += block_flops(n, vit.embed_dim, ratio, remaining)
            if isinstance(block.attn, WindowAttention):
                found = trace.subgrid.get(i)
                grid, (high, wide) = found[::2] if found else (trace.grid, (block.attn.window_size,) * 2)
                windows = -(-grid[0] // high) * -(-grid[1] // wide)
                total += 4 * vit.embed_dim * (windows * (high * wide) ** 2 - n * n)
    return total
