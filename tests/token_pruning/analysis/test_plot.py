"""Token states of constructed traces, and their images."""

import numpy as np
import pytest
import torch

from token_pruning import PassTrace
from token_pruning.analysis import plot, sheet
from token_pruning.analysis.plot import DROPPED, LATER, MERGED, USED

PREFIX = torch.ones(1, 1, dtype=torch.bool)


def trace_of(*used, assignment=None):
    """Return a trace with one prefix token, whose blocks computed the tokens ``used`` of a 2 x 3 grid."""
    found = PassTrace((2, 3), 1)
    for block, row in enumerate(used):
        found.used[block] = torch.cat([PREFIX, torch.tensor([row], dtype=torch.bool)], dim=1)
    found.assignment = {
        block: torch.tensor([[0, *(position + 1 for position in row)]]) for block, row in (assignment or {}).items()
    }
    return found


REACTIVATED = trace_of([1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1], [1, 1, 0, 0, 1, 1])  # token 0 is reactivated
EXITING = trace_of([1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1])
# In block 1 token 0 is merged into 1; in block 2 both are merged into 4, and 5 is dropped.
MERGING = trace_of(
    [1, 1, 1, 1, 1, 1],
    [0, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 1, 0],
    assignment={1: [1, 1, 2, 3, 4, 5], 2: [4, 4, 2, 3, 4, 5]},
)


def test_tokens_that_a_later_block_computes_differ_from_dropped_ones():
    states = plot.token_states(REACTIVATED)
    assert states.shape == (3, 2, 3)
    assert states[1].ravel().tolist() == [LATER, USED, DROPPED, USED, USED, USED]
    assert states[2].ravel().tolist() == [USED, USED, DROPPED, DROPPED, USED, USED]
    assert plot.token_depth(REACTIVATED).ravel().tolist() == [2, 3, 1, 2, 3, 3]


def test_merged_tokens_have_their_own_state_and_group():
    states = plot.token_states(MERGING)
    assert states[1].ravel().tolist() == [MERGED, *[USED] * 5]
    assert states[2].ravel().tolist() == [MERGED, MERGED, USED, USED, USED, DROPPED]
    assert plot.token_groups(MERGING, 0) is None
    # Group numbers are positions with the prefix token: 2 is the second token of the grid.
    assert plot.token_groups(MERGING, 1).ravel().tolist() == [2, 2, -1, -1, -1, -1]
    assert plot.token_groups(MERGING, 2).ravel().tolist() == [5, 5, -1, -1, 5, -1]


def test_groups_whose_token_is_dropped_are_dropped_with_it():
    trace = trace_of([1] * 6, [0, 0, 1, 1, 1, 1], assignment={1: [1, 1, 2, 3, 4, 5]})
    assert plot.token_states(trace)[1].ravel().tolist()[:2] == [DROPPED, DROPPED]
    assert plot.token_groups(trace, 1) is None


def test_overlay_paints_by_state_and_crops_padding():
    image = np.full((24, 40, 3), 200, np.uint8)
    out = plot.overlay(image, plot.token_states(REACTIVATED)[1])
    assert out.shape == image.shape
    for x, state in ((8, LATER), (38, DROPPED)):
        strength = plot.STRENGTH[state]
        assert out[8, x] == pytest.approx((1 - strength) * 200 + strength * np.array(plot.COLOURS[state]), abs=1)
    assert (out[8, 20] == 200).all() and (out[20, 8] == 200).all()
    assert out[8, 15].min() > 200  # a line between a skipped token and a computed one


def test_groups_have_one_colour_and_neighbours_another():
    image = np.full((32, 48, 3), 128, np.uint8)
    out = plot.overlay(image, plot.token_states(MERGING)[2], groups=plot.token_groups(MERGING, 2))
    assert (out[8, 8] == out[8, 24]).all() and (out[8, 8] == out[24, 24]).all() and (out[8, 8] != 128).any()
    assert (out[24, 8] == 128).all()
    assert out[24, 40].max() < 100


def test_depth_and_exit_maps_cover_the_image():
    image = np.zeros((24, 40, 3), np.uint8)
    depth = plot.depth_map(image, plot.token_depth(REACTIVATED), 3)
    assert depth.shape == image.shape and depth[8, 20].mean() > depth[8, 8].mean() > depth[8, 38].mean()
    exits = plot.exit_map(image, EXITING.last_use()[0].numpy(), [0, 1])
    for count in (2, 7, 12, 30):
        assert len({plot.exit_colour(number, count) for number in range(count)}) == count
    assert plot.exit_blocks(EXITING.last_use().numpy(), 2) == [0, 1]
    assert (exits[8, 8] != exits[8, 24]).any() and (exits[8, 38] == 0).all()


def test_sheet_and_chart_have_the_expected_size():
    from PIL import Image

    states = plot.token_states(REACTIVATED).reshape(3, -1)
    shares = np.stack([(states == state).mean(1) for state in range(4)], axis=1)
    assert sheet.chart(shares, [0, 1, 2], (320, 200)).size == (320, 200)
    cell = Image.new("RGB", (100, 50))
    made = sheet.contact_sheet([(f"block {i}", cell) for i in range(5)], [("skipped", (0, 0, 0))], columns=3)
    assert made.width == sheet.GAP + 3 * (sheet.CELL + sheet.GAP)
    assert sheet.shorten("a very long name of a class", 60, 12).endswith("...")
