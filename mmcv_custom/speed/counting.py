"""What a forward computed, by part of the net: operations (a multiply-add is 2), and tokens by block.

Shapes: B images, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from token_pruning import PlainViT, Trace
from token_pruning.attention import WindowAttention
from token_pruning.flops import FORMULAS, block_flops
from token_pruning.trace import PassTrace

PARTS = ("blocks", "selectors", "rest of backbone", "neck", "heads")


@dataclass
class Count:
    """Of one forward.

    Attributes:
        total: operations; ``parts`` (by ``PARTS``) and ``operators`` (by ATen name) split it.
        formula: what the closed formula says that the blocks compute on the tokens that were traced.
        tokens: (B, L) tokens of each image in each block, ``positions`` of them on the whole map; where a picture is
            seen through windows that slide over it, of all windows together.
    """

    total: int
    parts: dict[str, int]
    operators: dict[str, int]
    formula: int
    tokens: torch.Tensor
    positions: int


def count(forward: Callable[[], object], model: nn.Module) -> Count:
    """Run and count ``forward``, which calls ``model`` (a detector or segmentor, or its backbone alone) once."""
    backbone = getattr(model, "backbone", model)
    with torch.no_grad(), Trace() as trace, FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        forward()
    root = type(model).__name__ + (".backbone" if backbone is not model else "")
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    total, whole = by_module["Global"], by_module[root]
    below = _outermost(by_module, root)
    # Attention is a function: what the backbone computes outside all of its modules is that of the blocks.
    blocks = sum(n for name, n in below.items() if name.startswith(f"{root}.blocks.")) + whole - sum(below.values())
    selectors = sum(n for name, n in below.items() if name.startswith(f"{root}.reducer."))
    neck = by_module.get(f"{type(model).__name__}.neck", 0)
    parts = dict(zip(PARTS, (blocks, selectors, whole - blocks - selectors, neck, total - whole - neck), strict=True))
    operators = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    tokens = [torch.stack([seen.used[i].sum(1) for i in seen.blocks], dim=1).cpu() for seen in trace.passes]
    formula = sum(_formula(backbone, *window) for window in zip(trace.passes, tokens, strict=True))
    positions = sum(seen.used[seen.blocks[0]].shape[1] for seen in trace.passes)
    return Count(total, parts, operators, formula, sum(tokens), positions)


def _outermost(by_module: dict[str, int], root: str) -> dict[str, int]:
    """Those of the called modules below ``root`` that no other of them contains."""
    found: dict[str, int] = {}
    for name in sorted(name for name in by_module if name.startswith(f"{root}.")):
        if not any(name.startswith(f"{other}.") for other in found):
            found[name] = by_module[name]
    return found


def _formula(vit: PlainViT, seen: PassTrace, tokens: torch.Tensor) -> int:
    """The blocks' operations; a windowed block attends on the map padded to whole windows."""
    total = 0
    for column, i in enumerate(seen.blocks):
        block = vit.blocks[i]
        ratio = block.mlp.fc1.out_features / vit.embed_dim
        left = seen.left[i].sum(1).tolist() if i in seen.left else tokens[:, column].tolist()
        for n, remain in zip(tokens[:, column].tolist(), left, strict=True):
            total += block_flops(n, vit.embed_dim, ratio, remain)
            if isinstance(block.attn, WindowAttention):
                size = block.attn.window_size
                windows = -(-seen.grid[0] // size) * -(-seen.grid[1] // size)
                total += 4 * vit.embed_dim * (windows * size**4 - n * n)
    return total
