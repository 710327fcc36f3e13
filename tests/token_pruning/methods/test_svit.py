"""Token selection of SViT in evaluation and training, and its errors."""

import pytest
import torch

from token_pruning import PlainViT, SViT, TokenSet, Trace

DIM = 24


def tokens_of(x, prefix=0):
    return TokenSet.full(x, (x.shape[1] - prefix, 1), prefix)


def a_svit(**kwargs):
    torch.manual_seed(0)
    svit = SViT(DIM, 1, blocks=[0], **kwargs).eval()
    torch.nn.init.normal_(svit.selectors[0].mlp.fc2.weight, std=2.0)
    return svit


def keep_of(svit, x, prefix=0):
    tokens = tokens_of(x, prefix)
    return svit.before_block(0, tokens, svit.start(tokens)).keep.view(len(x), -1)


@pytest.fixture
def x():
    return torch.randn(3, 50, DIM, generator=torch.Generator().manual_seed(4))


def probabilities(svit, x):
    return svit.selectors[0](x)[..., 0].exp()


@torch.no_grad()
def test_target_keeps_as_many_as_the_probabilities_sum_to(x):
    svit = a_svit()
    p, keep = probabilities(svit, x), keep_of(svit, x)
    assert torch.equal(keep.sum(1), p.sum(1).round().long())
    for b in range(3):
        assert p[b][keep[b]].min() >= p[b][~keep[b]].max()


@torch.no_grad()
def test_threshold_and_ratio(x):
    svit = a_svit(mode="threshold")
    assert torch.equal(keep_of(svit, x), probabilities(svit, x) > 0.5)
    svit.mode = "ratio"
    assert keep_of(svit, x).sum(1).tolist() == [35] * 3


@torch.no_grad()
def test_ratio_scale_changes_the_keep_ratio_without_training(x):
    svit = a_svit()
    for mode in ("target", "threshold", "ratio", "sample"):
        svit.mode, svit.seed = mode, 5
        kept = []
        for scale in (0.25, 0.5, 1.0, 1.4):
            svit.ratio_scale = scale
            kept.append(keep_of(svit, x).float().mean().item())
        assert kept == sorted(kept) and kept[0] < kept[-1], mode
    svit.mode, svit.ratio_scale = "ratio", 0.5
    assert keep_of(svit, x).sum(1).tolist() == [18] * 3


@torch.no_grad()
def test_sample_follows_the_probabilities_and_its_seed(x):
    svit = a_svit(mode="sample")
    draws = torch.stack([keep_of(svit, x) for _ in range(400)]).float().mean(0)
    assert (draws - probabilities(svit, x)).abs().max() < 0.12
    svit.seed = 7
    first = keep_of(svit, x)
    assert torch.equal(keep_of(svit, x), first)
    assert torch.equal(torch.cat([keep_of(svit, one[None]) for one in x]), first)
    svit.seed = 8
    assert not torch.equal(keep_of(svit, x), first)


@torch.no_grad()
def test_nothing_kept_is_legal(x):
    svit = a_svit(mode="threshold")
    svit.selectors[0].mlp.fc2.weight.zero_()
    svit.selectors[0].mlp.fc2.bias.copy_(torch.tensor([-9.0, 9.0]))
    assert not keep_of(svit, x).any()


@torch.no_grad()
def test_class_token_variants(x):
    svit = a_svit(mode="threshold")
    with_class = torch.cat([x[:, :1], x], dim=1)
    assert keep_of(svit, with_class, prefix=1)[:, 0].all()
    scoring = a_svit(mode="threshold", class_tokens="score")
    assert torch.equal(keep_of(scoring, with_class, prefix=1), probabilities(scoring, with_class) > 0.5)
    last = SViT(DIM, 4, blocks=[2, 3], class_tokens="keep", last_class_tokens="score")
    assert last.class_tokens == ["keep", "score"]


def vit_with(**reducer):
    torch.manual_seed(0)
    vit = PlainViT(
        img_size=64, embed_dim=DIM, depth=4, num_heads=3, reducer=dict(type="SViT", blocks=[0, 1, 2, 3], **reducer)
    )
    for selector in vit.reducer.selectors:
        torch.nn.init.normal_(selector.mlp.fc2.weight, std=2.0)
    return vit


def masks_of(vit):
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with Trace() as trace:
        stack = vit.start(image)
        stack.run(0, 3)
        out = stack.finish()
    return trace.passes[0].masks(), out


@pytest.mark.parametrize("train", [False, True])
def test_inherit_never_reactivates(train):
    masks, _ = masks_of(vit_with(inherit=True).train(train))
    for earlier, later in zip(masks.unbind(1), masks.unbind(1)[1:], strict=False):
        assert not (later & ~earlier).any()


@torch.no_grad()
def test_inherit_keeps_the_ratio_of_all_tokens():
    ratios = [0.75, 0.5, 0.25, 0.25]
    masks, _ = masks_of(vit_with(inherit=True, mode="ratio", keep_ratio=ratios).eval())
    assert masks.float().mean(dim=(0, 2, 3)).tolist() == ratios


@torch.no_grad()
def test_seeded_noise_differs_from_block_to_block():
    vit = vit_with(mode="sample", seed=0)
    for selector in vit.reducer.selectors:  # equal probabilities: only the noise decides
        torch.nn.init.zeros_(selector.mlp.fc2.weight)
    masks, _ = masks_of(vit.eval())
    assert not torch.equal(masks[:, 0], masks[:, 1])
    vit.reducer.seed = None
    assert not torch.equal(masks_of(vit)[0], masks_of(vit)[0])


@torch.no_grad()
def test_a_scale_above_one_keeps_the_order(x):
    svit = a_svit(mode="ratio", keep_ratio=0.4)
    p = probabilities(svit, x)
    svit.ratio_scale = 1.25
    keep = keep_of(svit, x)
    assert keep.sum(1).tolist() == [25] * 3
    for b in range(3):
        assert p[b][keep[b]].min() >= p[b][~keep[b]].max()


def test_dropped_tokens_are_reactivated():
    masks, _ = masks_of(vit_with().eval())
    assert (masks[:, 1] & ~masks[:, 0]).any()


@torch.no_grad()
def test_reuse_shares_the_decision_and_not_only_the_weights():
    masks, _ = masks_of(vit_with(selectors=[0, 0, 1, 1]).eval())
    assert torch.equal(masks[:, 0], masks[:, 1]) and torch.equal(masks[:, 2], masks[:, 3])
    vit = vit_with(selectors=[0, 0, 1, 1], reuse=False).eval()
    for block in vit.blocks:
        torch.nn.init.normal_(block.mlp.fc2.weight)  # else a block hardly changes what the selector sees
    again, _ = masks_of(vit)
    assert not torch.equal(again[:, 0], again[:, 1])


@torch.no_grad()
def test_without_preserve_dropped_tokens_are_zero():
    masks, out = masks_of(vit_with(preserve=False).eval())
    dropped = ~masks[:, -1].flatten(1)
    assert dropped.any() and (out[dropped] == 0).all() and (out[~dropped] != 0).any()


@pytest.mark.parametrize("kwargs", [dict(), dict(inherit=True), dict(selectors=[0, 0, 1, 1])])
def test_training_path_equals_packed_evaluation_for_the_same_masks(kwargs):
    vit = vit_with(mode="sample", **kwargs)
    draws = {}

    def noise(counts, device, seed):
        """Return the same numbers for the k-th call of both passes."""
        draws["k"] = draws.get("k", 0) + 1
        return torch.randn(sum(counts), 2, generator=torch.Generator().manual_seed(draws["k"]))

    vit.reducer.noise = noise
    trained_masks, trained = masks_of(vit.train())
    draws.clear()
    with torch.no_grad():
        masks, packed = masks_of(vit.eval())
    assert torch.equal(masks, trained_masks)
    torch.testing.assert_close(packed, trained, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(keep_ratio=0.0), r"keep_ratio 0.0 is outside \(0, 1\]"),
        (dict(keep_ratio=1.5), r"keep_ratio 1.5 is outside \(0, 1\]"),
        (dict(blocks=[4]), "list block numbers from 0 to 3"),
        (dict(blocks=[2, 1]), "ascending"),
        (dict(blocks=[1, 2], keep_ratio=[0.5, 0.5, 0.5]), "3 entries for 2 selectors"),
        (dict(blocks=[1, 2], selectors=[0]), "one selector number to each of the 2 blocks"),
        (dict(blocks=[1, 2], selectors=[0, 2]), "without gaps"),
        (dict(ratio_loss="token"), "ratio_loss is 'token'; choose one of batch, image"),
        (dict(class_tokens="drop"), "class_tokens is 'drop'; choose one of keep, score"),
        (dict(mode="argmin"), "mode is 'argmin'; choose one of target, threshold, ratio, sample"),
        (dict(tau=0.0), "tau 0.0 must be greater than 0"),
        (dict(ratio_scale=0.0), "ratio_scale is 0.0; it must be greater than 0"),
        (dict(capacity_scale=0.0), "capacity_scale is 0.0; it must be greater than 0"),
    ],
)
def test_errors_are_one_sentence(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SViT(DIM, 4, **kwargs)
