"""Operations of a real forward, counted operator by operator, so that pruned tokens do not count.

Totals are FLOPs (a multiply-add is 2); reports use ``Flops.gmacs``, 10^9 multiply-adds, which most papers on vision
models call GFLOPs. Elementwise operations, norms, softmax, resizing, RoIAlign and NMS are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

aten = torch.ops.aten


@dataclass
class Flops:
    """Result of ``count_flops``, filled in when its body ends.

    Attributes:
        total: FLOPs, a multiply-add is 2.
        by_operator: the same by ATen operator.
    """

    total: int = 0
    by_operator: dict[str, int] = field(default_factory=dict)

    @property
    def gmacs(self) -> float:
        """Total in 10^9 multiply-adds."""
        return self.total / 2e9


@contextmanager
def count_flops() -> Iterator[Flops]:
    """Count the operations of the body: ``with count_flops() as flops: model(image)``, then ``flops.gmacs``."""
    flops = Flops()
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        yield flops
    flops.total = counter.get_total_flops()
    flops.by_operator = {str(op): n for op, n in counter.get_flop_counts().get("Global", {}).items()}


def block_flops(tokens: int, dim: int, mlp_ratio: float = 4.0, left: int | None = None) -> int:
    """Return the FLOPs of one transformer block on ``tokens`` tokens of one image in closed form.

    Attention: 8 C^2 per token and 4 n^2 C; MLP: 4 r C^2 per token.

    Args:
        tokens: n, the tokens that enter the attention.
        dim: C.
        mlp_ratio: r.
        left: the tokens that enter the MLP; None for all.
    """
    left = tokens if left is None else left
    return 8 * tokens * dim**2 + 4 * tokens**2 * dim + round(4 * mlp_ratio * left * dim**2)


def _cpu_attention(q_shape: Any, k_shape: Any, v_shape: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(q_shape, k_shape, v_shape)


def _embedding_bag(weight_shape: Any, index_shape: Any, *args: Any, **kwargs: Any) -> int:
    rows = index_shape.numel() if isinstance(index_shape, torch.Size) else torch.Size(index_shape).numel()
    return 2 * rows * weight_shape[1]


def _matrix_vector(matrix_shape: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(matrix_shape)


# Formulas that torch lacks: fused attention on CPU, the weighted gather of deformable attention, and matrix-vector
# products.
FORMULAS = {
    aten.mv: _matrix_vector,
    aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    aten._embedding_bag: _embedding_bag,
    aten._embedding_bag_forward_only: _embedding_bag,
}
