import pytest

from token_pruning.analysis.keep_ratio import mean_keep_ratio


@pytest.mark.parametrize(
    ("by_block", "pruned", "expected"),
    [
        ([1.0, 1.0, 0.6, 0.2], [2, 3], 0.4),
        ([1.0, 0.5, 1.0, 0.5], [1, 3], 0.5),
        ([1.0, 0.5, 1.0], [1, 2], 0.75),  # a block that may be pruned and kept all
        ([1.0, 1.0], [], 1.0),
    ],
)
def test_the_mean_is_over_the_blocks_that_may_be_pruned(by_block, pruned, expected):
    assert mean_keep_ratio(by_block, pruned) == pytest.approx(expected)
