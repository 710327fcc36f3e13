"""The keep ratio of a model as one number."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_keep_ratio(keep_by_block: Sequence[float], pruned_blocks: Sequence[int]) -> float:
    """Return the mean over the pruned blocks of the fraction of the grid tokens that a block computes.

    This is ``keep_ratio`` in all result rows and "kept" in all tables. Blocks that a method never prunes are left out:
    with them, the same setting would give another number in a deeper model.

    Args:
        keep_by_block: fraction of the grid tokens that each of the model's blocks computes.
        pruned_blocks: numbers of the blocks that may run on a subset (``Reducer.pruned_blocks``); without any, as in a
            dense model, the ratio is 1.
    """
    return statistics.mean(keep_by_block[block] for block in pruned_blocks) if pruned_blocks else 1.0
