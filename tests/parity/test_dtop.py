"""DToP against the recorded numbers of the published code: masks and class maps exactly. Shapes: B images, N tokens,
K classes."""

import pytest
import torch
from fixture_files import of_kind

from token_pruning.methods.dtop import sure_tokens


@pytest.mark.parametrize("record", of_kind("selection_rule"))
def test_selection_rule(record):
    for case in record["cases"]:
        active = ~case["pruned_before"]
        leave = sure_tokens(case["scores"].transpose(1, 2)[active], active.sum(1).tolist(), case["thresh"],
                            record["keep_per_class"])
        pruned = case["pruned_before"].masked_scatter(active, leave)
        assert (pruned & active).sum(1).tolist() == case["newly_pruned"], case["name"]
        if not case["has_ties"]:
            assert torch.equal(pruned, case["pruned_after"]), case["name"]


def test_there_is_something_to_compare_with():
    assert of_kind("selection_rule"), "no DToP fixture found; PARITY_FIXTURES must name their folder"
