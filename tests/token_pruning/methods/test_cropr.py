"""Scores, schedule, fusion, labels and folding of Cropr; parity with the published code is in tests/parity."""

from fractions import Fraction

import pytest
import torch
from reducers import DEPTH, DIM, criterion, images, scattered

from token_pruning import Cropr, PlainViT, TokenSet, Trace, build_reducer, collect_losses, count_flops
from token_pruning.analysis.flops import block_flops
from token_pruning.auxiliary import AuxOutput, image_labels, presence_labels, token_labels
from token_pruning.components.cropr_router import scores

PROJECTED = dict(num_queries=6, num_heads=2, pre_norm=True, q_proj=True, k_proj=True, v_proj=True)


def a_vit(class_token=True, **reducer):
    torch.manual_seed(0)
    return scattered(
        PlainViT(
            img_size=64,
            embed_dim=DIM,
            depth=DEPTH,
            num_heads=3,
            class_token=class_token,
            reducer=dict(type="Cropr", **dict(dict(num_classes=4), **reducer)),
        )
    ).eval()


def forward(vit, x):
    stack = vit.start(x)
    stack.run(0, DEPTH - 1)
    return stack.finish(with_prefix=True)


@pytest.mark.parametrize("options", [{}, PROJECTED], ids=["plain", "projected"])
@torch.no_grad()
def test_the_vector_ranks_like_all_queries_and_heads_together(options):
    router = a_vit(**options).reducer.routers[0]
    attention, x = router.cross_attn, torch.randn(7, DIM)
    normed = attention.attn_norm(x)
    logits = attention.q(attention.queries)[0] @ attention.k(normed).T  # over all heads together
    found = scores(x, router.vector(), "pre_norm" in options)
    rest = logits.sum(0) - found
    torch.testing.assert_close(rest, rest.mean().expand(7), atol=1e-4, rtol=1e-4)  # the same for every token
    assert torch.equal(found.argsort(), logits.sum(0).argsort())


def test_half_precision_neither_overflows_nor_ties():
    x = torch.full((3, 4), 200.0, dtype=torch.float16) * torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float16)
    found = scores(x, torch.full((4,), 100.0, dtype=torch.float16))
    assert found.isfinite().all() and found.argsort().tolist() == [0, 1, 2] and found.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scores(x, torch.full((4,), 100.0)), found)
        tokens, reducer = TokenSet.full(torch.randn(1, 25, DIM), (4, 6), 1), a_vit(r=5, **PROJECTED).reducer
        vectors = reducer.start(tokens).vectors
    assert vectors.dtype == torch.float32 and torch.equal(vectors[1], reducer.routers[1].vector())


@torch.no_grad()
def test_the_highest_scores_stay_and_fusion_restores_the_others():
    vit, x = a_vit(r=5), images()
    with Trace() as trace:
        forward(vit, x)
    used, stack = trace.passes[0].used, vit.start(x)
    assert [int(mask.sum()) for mask in used.values()] == [75, 57, 42, 75]  # 5 + 1, then 5 of 24 + 1 each
    for block, router in enumerate(vit.reducer.routers):
        stack.run(block, block)
        flat = scores(stack.map(with_prefix=True).flatten(0, 1), router.vector()).view(3, -1)
        there, stays = used[block], used[block + 1]
        flat[:, 0] = torch.inf
        if block + 2 < DEPTH:
            lowest = flat.masked_fill(~stays, torch.inf).amin(1)
            assert (flat.masked_fill(~there | stays, -torch.inf).amax(1) < lowest).all()
    before = stack.map(with_prefix=True)
    stack.run(2, 2)
    gone, after = ~used[2], stack.map(with_prefix=True)
    assert torch.equal(after[gone], before[gone]) and stack.tokens.is_full


@torch.no_grad()
def test_inverted_and_random_rankings():
    used = {}
    for ranking in ("queries", "inverted", "random"):
        vit = a_vit(prune_after=[0], r=11, ranking=ranking)
        with Trace() as trace:
            forward(vit, images())
        used[ranking] = trace.passes[0].used[1][:, 1:]
    assert all(mask.sum() == 3 * 12 for mask in used.values())
    assert torch.equal(used["inverted"], ~used["queries"])
    assert torch.equal(used["random"][0], used["random"][1]) and not torch.equal(used["random"], used["queries"])
    assert list(vit.reducer.parameters()) == [] and not vit.reducer.has_aux_heads


@torch.no_grad()
def test_any_number_of_prefix_tokens():
    for prefix, counts in ((0, [24, 19, 14, 24]), (3, [27, 19, 14, 27])):
        vit = a_vit(class_token=False, r=5)
        x = torch.cat([torch.randn(2, prefix, DIM), torch.randn(2, 24, DIM)], dim=1)
        tokens, seen = TokenSet.full(x, (4, 6), prefix), []
        state = vit.reducer.start(tokens)
        for block in range(DEPTH):
            seen.append(tokens.counts[0])
            tokens = vit.reducer.after_block(block, tokens, state)
        assert seen == counts and torch.equal(tokens.restore(), x)


def test_schedules():
    def kept(grid=(8, 8), prefix=1, depth=6, **options):
        return Cropr(DIM, depth, **options).schedule.tokens_left(grid, prefix)

    assert kept(r=8) == [55, 47, 39, 31] and kept(r=8, fusion=False) == [55, 47, 39, 31, 23]
    assert kept((14, 14), depth=24, r=8)[-1] == 19 and kept((32, 32), depth=24, r=40)[-1] == 143
    assert kept((14, 14), depth=24, r=50, prune_after=[5, 11, 17]) == [145, 95, 45]
    assert kept(r=[0, 3, 0, 4]) == [64, 61, 61, 57] and kept(r=0) == [64] * 4
    assert kept(keep_ratio=0.5) == [56, 48, 40, 32] and kept((1, 1), keep_ratio=0.5) == [1] * 4
    assert kept(keep_ratio=[1.0, 0.5, 0.5, 0.25]) == [64, 32, 32, 16]
    assert kept((32, 32), prune_after=[2], depth=24, keep_ratio=0.2, fusion=False) == [205]


def test_anneal_drops_fewer_tokens():
    reducer = Cropr(DIM, 6, r=8)
    dropped = []
    for epoch in range(4):
        reducer.anneal(Fraction(epoch, 3))
        dropped.append(64 - reducer.schedule.tokens_left((8, 8), 1)[0])
    assert dropped == [0, 2 + 1, 5 + 1, 8 + 1]
    reducer = Cropr(DIM, 6, keep_ratio=0.5)
    reducer.anneal(0.5)
    assert reducer.schedule.tokens_left((8, 8), 1) == [60, 56, 52, 48]


@torch.no_grad()
def test_in_evaluation_a_pruning_block_costs_one_product_per_token():
    with count_flops() as flops:
        forward(a_vit(r=5, num_queries=24), images(1))
    ran, patches, ranked = [25, 19, 14, 25], 24 * 2 * DIM * 768, 25 + 19
    assert flops.total == sum(block_flops(n, DIM) for n in ran) + patches + 2 * DIM * ranked


@pytest.mark.parametrize("options", [{}, PROJECTED], ids=["plain", "projected"])
@torch.no_grad()
def test_folding_keeps_the_output_and_removes_the_queries(options):
    vit, x = a_vit(r=5, **options), images()
    wanted, queries = forward(vit, x), options.get("num_queries", 1)
    vit.reducer.fold()
    assert torch.equal(forward(vit, x), wanted) and not vit.reducer.has_aux_heads
    assert [*vit.reducer.state_dict()] == ["routers.0.folded", "routers.1.folded"]
    built = a_vit(r=5, folded=True, **options)
    built.load_state_dict(vit.state_dict())
    assert torch.equal(forward(built, x), wanted) and queries
    with collect_losses() as reported:  # training goes on without labels
        assert torch.equal(forward(built.train(), x), wanted) and reported == {}


@torch.no_grad()
def test_weights_that_change_change_the_ranking():
    vit, x = a_vit(r=5), images()
    before = forward(vit, x)
    for router in vit.reducer.routers:
        router.cross_attn.queries.neg_()
    assert not torch.equal(forward(vit, x), before)


def test_auxiliary_losses_train_routers_and_nothing_else():
    vit = a_vit(r=5).train()
    with collect_losses(criterion) as reported:
        out = forward(vit, images())
    assert set(reported) == {"loss_aux.0", "loss_aux.1", "keep_ratio.1"}
    assert reported["keep_ratio.1"] == pytest.approx(13 / 24)
    out.square().mean().backward(retain_graph=True)
    assert all(p.grad is None for p in vit.reducer.parameters())
    grads = [p.grad.clone() for p in vit.blocks.parameters()]
    (reported["loss_aux.0"] + reported["loss_aux.1"]).backward()
    assert all(p.grad.abs().sum() > 0 for p in vit.reducer.parameters())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(vit.blocks.parameters(), grads, strict=True))


def test_sampled_queries_give_the_same_logits_as_all():
    vit, outputs = a_vit(r=5, num_queries=24, num_sampled_queries=5).train(), []
    with collect_losses(lambda output: outputs.append(output) or output.logits.sum()):
        stack = vit.start(images())
        stack.run(0, 0)
        x = stack.map(with_prefix=True)  # at the first pruning block all tokens are there
        stack.run(1, DEPTH - 1)
        stack.finish()
    first = outputs[0]
    assert first.logits.shape == (3, 5, 4) and len(first.query_indices.unique()) == 5
    assert not torch.equal(first.query_indices, outputs[1].query_indices)
    torch.testing.assert_close(first.logits, vit.reducer.routers[0](x)[:, first.query_indices])


def test_labels_of_tokens_images_and_presence():
    logits, grid = torch.randn(2, 6, 4), (2, 3)
    labels = torch.tensor([[[0, 1, 255], [3, 255, 2]], [[255] * 3] * 2])
    wanted = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels.flatten(1), ignore_index=255)
    torch.testing.assert_close(token_labels(labels, 4)(AuxOutput(logits, grid, 6)), wanted)
    query_indices = torch.tensor([5, 1])
    some = token_labels(labels, 4)(AuxOutput(logits[:, query_indices], grid, 6, query_indices))
    torch.testing.assert_close(some, torch.nn.functional.cross_entropy(logits[0, query_indices], torch.tensor([2, 1])))
    assert token_labels(labels[1:], 4)(AuxOutput(logits[:1], grid, 6)) == 0  # without labels: zero, not nan
    padded = token_labels(labels[:, :1, :2], 4)(AuxOutput(logits, grid, 6))
    torch.testing.assert_close(padded, torch.nn.functional.cross_entropy(logits[0, :2], torch.tensor([0, 1])))

    image = AuxOutput(logits[:, :1], grid, 1)
    assert torch.equal(image_labels(lambda scores: scores, 4)(image), logits[:, 0])
    there = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(presence_labels(there)(image), bce(logits[:, 0], there.float()))
    there = torch.randint(0, 2, (2, 2, 3, 4))
    found = presence_labels(there)(AuxOutput(logits, grid, 6))
    torch.testing.assert_close(found, bce(logits, there.flatten(1, 2).float()))


@pytest.mark.parametrize(
    "reducer, sentence",
    [
        (dict(prune_after=[3]), "prune_after = .3.: list block numbers from 0 to 1, ascending, each once"),
        (dict(prune_after=[1, 0]), "ascending, each once"),
        (dict(prune_after=[]), "list block numbers"),
        (dict(prune_after=[3], fusion=False), "list block numbers from 0 to 2"),
        (dict(r=5, keep_ratio=0.5), "give r or keep_ratio, not both"),
        (dict(r=-1), "r = -1: give a whole number of tokens, 0 or more, or one for each of the 2 pruning blocks"),
        (dict(r=0.5), "r is 0.5 and must be a list, each entry a whole number or a whole number"),
        (dict(r=[1, 2, 3]), "for each of the 2 pruning blocks"),
        (dict(keep_ratio=0.0), "keep_ratio = 0.0: give the fraction of the grid in .0, 1."),
        (dict(keep_ratio=[0.5, 0.7]), "one for each of the 2 pruning blocks, none above the one before"),
        (dict(num_queries=0), "give at least one query"),
        (dict(num_queries=4, num_sampled_queries=5), "sample at most as many as there are"),
        (dict(ranking="variance"), "ranking is 'variance'; choose one of queries, inverted, random"),
        (dict(num_heads=5), "num_heads is 5, which must divide the 24 channels"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_arguments_out_of_range_are_one_sentence(reducer, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_reducer(dict(type="Cropr", **reducer), DIM, DEPTH)


def test_what_does_not_fit_the_images_is_one_sentence():
    with pytest.raises(
        ValueError, match="r = .12, 12. drops 25 tokens in 2 pruning blocks, and a grid of 4 x 6 has 24"
    ):
        forward(a_vit(r=12), images())
    with pytest.raises(ValueError, match="an image of 0 x 96 pixels has no patch of 16: leave empty images out"):
        forward(a_vit(r=5), images(2, 0, 96))
    with pytest.raises(ValueError, match="learn from labels, and there is no criterion"), collect_losses():
        forward(a_vit(r=5).train(), images())
    labels = torch.zeros(3, 4, 6, dtype=torch.int64)
    for options, wanted, sentence in (
        (
            dict(num_queries=16),
            token_labels(labels, 4),
            "labels of a grid of 4 x 6 need as many queries, and the auxiliary heads have 16: set num_queries=24",
        ),
        (dict(num_queries=24), image_labels(torch.sum, 4), "have 24 queries and an image has one label"),
        (dict(), image_labels(torch.sum, 5), "have 4 classes and the labels 5: set the reducer's num_classes=5"),
        (dict(num_queries=24), token_labels(labels, 3), "have 4 classes and the labels 3"),
        (dict(), presence_labels(torch.zeros(3, 7)), "have 4 classes and the labels 7"),
    ):
        with pytest.raises(ValueError, match=sentence), collect_losses(wanted):
            forward(a_vit(r=5, **options).train(), images())
