"""Numbers of a token view."""

import pytest
import torch

from mmcv_custom.data.synthetic import scene
from mmcv_custom.inference.token_view import TokenView, Window
from token_pruning import PassTrace


@pytest.mark.parametrize(("pruned", "ratio"), [((2,), 0.5), ((1, 2), 0.75), ((), 1.0)])
def test_the_mean_is_over_the_pruned_blocks(pruned, ratio):
    used = [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    trace = PassTrace((2, 2), 0, {block: torch.tensor([row]).bool() for block, row in enumerate(used)})
    view = TokenView(scene(32, 32), (Window(0, 0, trace),), 16, pruned)
    assert view.mean_keep_ratio() == view.to_dict()["keep_ratio"] == ratio
