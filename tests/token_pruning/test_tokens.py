"""Token sets: selection, exact restore, a new dense map."""

import pytest
import torch

from token_pruning import TokenSet
from token_pruning.tokens import feature_map


def a_map(batch=3, grid=(4, 5), prefix=0, dim=6):
    return torch.randn(batch, prefix + grid[0] * grid[1], dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_feature_map_is_a_view_that_convolutions_read_with_channels_last(batch):
    tokens = torch.randn(batch, 30, 6)[:, 10:]
    maps = feature_map(tokens, (4, 5))
    assert torch.equal(maps, tokens.transpose(1, 2).unflatten(2, (4, 5))) and maps.data_ptr() == tokens.data_ptr()
    assert torch.nn.Conv2d(6, 8, 1)(maps).is_contiguous(memory_format=torch.channels_last)


def test_a_clone_shares_no_memory():
    full = TokenSet.full(torch.randn(2, 6, 3), (2, 3))
    for tokens in (full, full.select(torch.arange(12) % 2 == 0)):
        copy = tokens.clone()
        assert torch.equal(copy.restore(), tokens.restore()) and copy.counts == tokens.counts
        before = copy.restore().clone()
        tokens.x.zero_()
        tokens.dense.zero_()
        assert torch.equal(copy.restore(), before)


def test_full_set_is_the_map():
    x = a_map()
    tokens = TokenSet.full(x, (4, 5))
    assert tokens.is_full and tokens.counts == (20, 20, 20)
    assert tokens.restore().data_ptr() == x.data_ptr()


@pytest.mark.parametrize("prefix", [0, 1])
def test_select_and_restore_are_exact(prefix):
    x = a_map(prefix=prefix)
    tokens = TokenSet.full(x, (4, 5), prefix)
    keep = torch.rand(len(tokens.x), generator=torch.Generator().manual_seed(1)) < 0.4
    subset = tokens.select(keep)
    assert torch.equal(subset.restore(), x)
    assert subset.counts == tuple(keep.view(3, -1).sum(1).tolist())
    changed = subset.with_x(subset.x + 1)
    assert torch.equal(changed.restore(), x + keep.view(3, -1, 1))
    # Dropped tokens are unchanged bit for bit.
    assert torch.equal(changed.restore()[~keep.view(3, -1)], x[~keep.view(3, -1)])


def test_a_subset_of_a_subset_keeps_positions_and_last_values():
    x = a_map()
    first = TokenSet.full(x, (4, 5)).select(torch.arange(60) % 2 == 0)
    first = first.with_x(first.x + 10)
    second = first.select(torch.arange(30) % 3 == 0)
    second = second.with_x(second.x + 100)
    wanted = x.clone().view(60, -1)
    wanted[::2] += 10
    wanted[::6] += 100
    torch.testing.assert_close(second.restore().view(60, -1), wanted)


def test_pending_tokens_are_written_on_restore():
    """With ``others``, everything equals the set without: map, gradients, a new map, a clone, further subsets."""
    x, results = a_map(), []
    for others in (True, False):
        source = x.clone().requires_grad_()
        tokens, seen = TokenSet.full(source, (4, 5)), []
        for step in (2, 3):
            dropped = torch.arange(len(tokens.x)) % step == 1
            counts = tuple((~dropped).view(3, -1).sum(1).tolist())
            tokens = tokens.with_x(tokens.x * 3)
            tokens = tokens.take((~dropped).nonzero()[:, 0], counts, dropped.nonzero()[:, 0] if others else None)
            seen += [tokens.x, tokens.index, tokens.restore(), tokens.clone().restore(), tokens.members()]
        assert len(tokens.pending) == 2 * others
        last = tokens.with_x(tokens.x + 1).select(torch.arange(len(tokens.x)) % 2 == 0)
        assert last.pending == ()
        seen += [last.restore(), tokens.with_dense(x * 2).restore()]
        last.restore().square().sum().backward()
        results.append([*seen, source.grad])
    for pending, written in zip(*results, strict=True):
        assert torch.equal(pending, written)


def test_images_may_keep_nothing():
    tokens = TokenSet.full(a_map(), (4, 5))
    keep = torch.zeros(60, dtype=torch.bool)
    keep[20:23] = True
    subset = tokens.select(keep)
    assert subset.counts == (0, 3, 0)
    assert torch.equal(tokens.select(keep & False).restore(), tokens.dense)


def test_with_dense_takes_new_values_at_the_same_positions():
    x = a_map()
    subset = TokenSet.full(x, (4, 5)).select(torch.arange(60) % 7 == 0)
    fresh = subset.with_dense(x * 2)
    assert torch.equal(fresh.x, subset.x * 2) and torch.equal(fresh.restore(), x * 2)


def test_to_map_and_prefix():
    tokens = TokenSet.full(a_map(prefix=2), (4, 5), 2).select(torch.arange(66) % 11 < 4)
    assert torch.equal(tokens.to_map(torch.ones(len(tokens.x))).flatten(), (torch.arange(66) % 11 < 4).float())
    assert torch.equal(tokens.is_prefix(), tokens.index % 22 < 2)


def test_gradients_go_through_select_and_restore():
    x = a_map().requires_grad_()
    subset = TokenSet.full(x, (4, 5)).select(torch.arange(60) % 2 == 0)
    subset.with_x(subset.x * 3).restore().sum().backward()
    assert torch.equal(x.grad.view(60, -1)[:, 0], torch.where(torch.arange(60) % 2 == 0, 3.0, 1.0))


def test_a_wrong_grid_is_one_sentence():
    with pytest.raises(ValueError, match="20 tokens do not fit a grid of 4 x 4"):
        TokenSet.full(a_map(), (4, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_token_of_many_positions_averages_in_half_precision(dtype):
    """One token of 600 positions: neither their number nor their sum fits half precision."""
    full = TokenSet.full(torch.zeros(1, 600, 2, dtype=dtype), (20, 30))
    rows, sources = torch.zeros(1, dtype=torch.int64), torch.arange(1, 600)
    merged = full.merge(rows, (1,), sources, torch.zeros_like(sources))
    assert merged.with_dense(torch.full((1, 600, 2), 200, dtype=dtype)).x.tolist() == [[200, 200]]
    assert merged.sizes().tolist() == [600]


def test_positions_of_a_dropped_merged_token_take_their_own_new_value():
    full = TokenSet.full(torch.arange(4.0).view(1, 4, 1), (1, 4))
    merged = full.merge(torch.tensor([0, 2, 3]), (3,), torch.tensor([1]), torch.tensor([0]))
    assert merged.restore().flatten().tolist() == [0.5, 0.5, 2, 3]
    subset = merged.take(torch.tensor([1, 2]), (2,))
    assert subset.restore().flatten().tolist() == [0.5, 0.5, 2, 3]
    assert subset.with_dense(torch.tensor([[[10.0], [20], [30], [40]]])).restore().flatten().tolist() == [
        10,
        20,
        30,
        40,
    ]
    assert merged.with_dense(torch.tensor([[[10.0], [20], [30], [40]]])).restore().flatten().tolist() == [
        15,
        15,
        30,
        40,
    ]
