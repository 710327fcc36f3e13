"""Merging methods: similarities in strips, ties, memory, borders of windows, sets that cannot be merged."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from token_pruning import ALGM, MPM, PiToMe, SettingError, TokenSet, count_flops
from token_pruning.components import similarity
from token_pruning.components.matching import bipartite_matching, energies, energy_matching
from token_pruning.components.similarity import best_match, unit
from token_pruning.components.windows import window_members, window_similarity
from token_pruning.methods.mpm import merge_mutual_pairs, nearest_tokens
from token_pruning.methods.tome import merge


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Largest(TorchDispatchMode):
    """Record the number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        self.numel = max([self.numel, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return result


@pytest.mark.parametrize("strip", [1, 50, 400, 2000])
def test_strips_change_nothing(monkeypatch, strip):
    tokens = unit(noise(3, 37, 8))
    # Exact in any order of summation: equal tokens are equal to the last bit, and the first index wins.
    tied = torch.eye(8).repeat(5, 1)[None, :37].expand(3, -1, -1)
    metric = noise(3, 37, 8, seed=2)
    wanted = [
        *best_match(tokens, tokens, others=True),
        *best_match(tied, tied, others=True),
        energies(tokens, 0.2),
        *bipartite_matching(metric, 12, 1),
        *energy_matching(metric, 12, 0.2, True, protected=1),
        *energy_matching(metric, 12, 0.2, False, protected=2),
    ]
    assert torch.equal(wanted[3][0, :9], torch.tensor([8, 9, 10, 11, 12, 13, 14, 15, 0]))
    monkeypatch.setattr(similarity, "STRIP", strip)
    found = [
        *best_match(tokens, tokens, others=True),
        *best_match(tied, tied, others=True),
        energies(tokens, 0.2),
        *bipartite_matching(metric, 12, 1),
        *energy_matching(metric, 12, 0.2, True, protected=1),
        *energy_matching(metric, 12, 0.2, False, protected=2),
    ]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_6400_tokens_need_no_matrix_of_all_pairs():
    tokens = TokenSet.full(noise(1, 6400, 4), (80, 80))
    by_image = tokens.by_image(tokens.x)
    calls = dict(
        mpm=lambda: merge_mutual_pairs(tokens),
        pitome=lambda: merge(tokens, energy_matching(by_image, 640, 0.5)),
        bsm=lambda: merge(tokens, energy_matching(by_image, 640, 0.5, False)),
        tome=lambda: merge(tokens, bipartite_matching(by_image, 640)),
    )
    for name, call in calls.items():
        with Largest() as largest:
            assert len(call().x) < 6400
        assert largest.numel <= similarity.STRIP < 6400**2 / 2, name


def test_similarities_are_in_single_precision_under_autocast():
    tokens = TokenSet.full(noise(2, 200, 16), (10, 20))
    metric = tokens.by_image(tokens.x)
    wanted = nearest_tokens(tokens), energy_matching(metric, 30, 0.3), bipartite_matching(metric, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest_tokens(tokens), energy_matching(metric, 30, 0.3), bipartite_matching(metric, 30)
    assert torch.equal(found[0], wanted[0])
    assert all(torch.equal(a, b) for x, y in zip(found[1:], wanted[1:], strict=True) for a, b in zip(x, y, strict=True))


def test_matching_is_counted():
    tokens = TokenSet.full(noise(2, 64, 8), (8, 8))
    for call, macs in (
        (lambda: merge_mutual_pairs(tokens), 2 * 64**2 * 8),
        (lambda: energy_matching(tokens.by_image(tokens.x), 5, 0.5, False), 2 * 64**2 * 8),
        (lambda: ALGM(8, 6).pairs(tokens, 5), 2 * 32**2 * 8),
    ):
        with count_flops() as flops:
            call()
        assert flops.total == 2 * macs


@torch.no_grad()
def test_a_nan_spoils_its_image_only():
    x = noise(3, 36, 8)
    broken = x.clone()
    broken[1, 7] = torch.nan
    methods = dict(
        mpm=merge_mutual_pairs,
        windows=lambda tokens: tokens.merge(*ALGM(8, 6, threshold=0.0).windows(tokens)),
        pairs=lambda tokens: tokens.merge(*ALGM(8, 6).pairs(tokens, 5)),
        pitome=lambda tokens: merge(tokens, energy_matching(tokens.by_image(tokens.x), 6, 0.3)),
    )
    for name, method in methods.items():
        clean, found = (method(TokenSet.full(values, (6, 6))).restore() for values in (x, broken))
        assert torch.equal(found[[0, 2]], clean[[0, 2]]), name
        assert found[1].isnan().any()


def test_mpm_takes_means_of_means_and_keeps_no_sizes():
    angles = torch.tensor([0.0, 0.1, 0.5, 0.65])  # pairs 0 1 and 2 3, then one pair of pairs
    x = torch.stack([angles.cos(), angles.sin()], dim=1)[None] * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
    full = TokenSet.full(x.clone().requires_grad_(), (2, 2))
    once = merge_mutual_pairs(full)
    torch.testing.assert_close(once.x, torch.stack([x[0, :2].mean(0), x[0, 2:].mean(0)]))
    twice = merge_mutual_pairs(once)
    assert once.size is None and twice.size is None and twice.counts == (1,)
    torch.testing.assert_close(twice.restore(), x.mean(1, keepdim=True).expand_as(x))
    three = merge_mutual_pairs(merge_mutual_pairs(TokenSet.full(x[:, :3], (1, 3))))
    torch.testing.assert_close(three.x[0], (x[0, :2].mean(0) + x[0, 2]) / 2)  # not the mean of three


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_nothing_to_merge(prefix):
    one = TokenSet.full(noise(2, prefix + 1, 8), (1, 1), prefix)
    assert merge_mutual_pairs(one) is one
    algm = ALGM(8, 6, threshold=-1.0)
    windows, pairs = algm.windows(one), algm.pairs(one, 5)
    assert one.merge(*windows).counts == one.counts and pairs is None
    assert PiToMe(8, 6, keep_ratio=0.5).removed_by(0, one) == 0


def test_mpm_spreads_its_merges():
    blocks = {merges: MPM(8, 12, merges=merges).blocks for merges in (0, 1, 2, 3, 6, 8, 12, 99)}
    assert blocks == {
        0: [],
        1: [5],
        2: [2, 5],
        3: [1, 3, 5],
        6: [*range(6)],
        8: [*range(8)],
        12: [*range(12)],
        99: [*range(12)],
    }
    assert MPM(8, 24).blocks == [2, 5] and MPM(8, 4).blocks == [2] and MPM(8, 1).blocks == [0]


def test_pitome_protects_the_token_that_is_alone():
    angles = torch.tensor([0.0, 0.01, 0.02, 0.03, 2.0])
    metric = torch.stack([angles.cos(), angles.sin()], dim=1)[None]
    assert energies(unit(metric), 0.9)[0].argmin() == 4
    match = energy_matching(metric, 2, 0.9)
    assert 4 in match.rows and 4 not in match.sources and 4 not in match.targets


@torch.no_grad()
def test_windows_that_the_border_cuts_do_not_merge():
    x = torch.ones(2, 1 + 5 * 7, 4)
    tokens = TokenSet.full(x, (5, 7), 1)
    members = window_members((5, 7), (2, 3), x.device)
    assert members.tolist()[0] == [0, 1, 2, 7, 8, 9] and len(members) == 4
    torch.testing.assert_close(window_similarity(x[:, 1:], members), torch.ones(2, 4))
    merged = tokens.merge(*ALGM(4, 6, window=[2, 3], threshold=0.99).windows(tokens))
    assert merged.counts == (36 - 4 * 5,) * 2 and torch.equal(merged.restore(), x)
    alone = (merged.assignment.view(2, -1) % 36 == torch.arange(36))[0, 1:].view(5, 7)
    assert alone[4].all() and alone[:, 6].all() and alone[:4, :6].sum() == 4
    for window in (6, [1, 8], [6, 1]):
        plan = ALGM(4, 6, window=window, threshold=-1.0).windows(tokens)
        assert tokens.merge(*plan).counts == tokens.counts


@torch.no_grad()
def test_each_image_merges_its_own_windows():
    x = noise(3, 16, 8)
    x[0] = 1
    x[1, :8] = 1
    tokens = TokenSet.full(x, (4, 4))
    merged = tokens.merge(*ALGM(8, 6, threshold=0.99).windows(tokens))
    assert merged.counts == (4, 10, 16)
    torch.testing.assert_close(merged.restore(), x)
    assert merged.sizes().tolist() == [4.0] * 4 + [4.0] * 2 + [1.0] * 8 + [1.0] * 16
    least = tokens.merge(*ALGM(8, 6, threshold=0.99, count="batch").windows(tokens))
    assert least.counts == (16, 16, 16)


def test_windows_need_the_whole_grid():
    tokens = TokenSet.full(noise(1, 16, 8), (4, 4)).take(torch.arange(12), (12,))
    with pytest.raises(SettingError, match="merges windows of the whole grid, and tokens of it are merged or dropped"):
        ALGM(8, 6).windows(tokens)


def test_algm_follows_the_depth_of_the_host():
    assert [ALGM(8, depth).blocks for depth in (1, 4, 12, 24)] == [[0], [0, 3], [0, 4], [0, 6]]
