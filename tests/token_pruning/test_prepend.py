"""Tokens that enter in front of all others between two blocks: their places, and every method after that."""

import pytest
import torch
from reducers import ALL, DEPTH, DIM, VARIANTS, criterion, images, keep_all, reduced, score_fn
from timm.layers import RotaryEmbeddingCat
from timm.models.eva import EvaBlock
from torch import nn

from token_pruning import PlainViT, StackForward, TokenSet, Trace, build_reducer, collect_losses
from token_pruning.attention import rope_with_prefix, visible_tokens
from token_pruning.capacity import select_at_most
from token_pruning.components.class_attention import class_attention

GRID, PREFIX, NEW = (4, 6), 1, 3


def a_set(kind, batch=2):
    full = TokenSet.full(torch.randn(batch, PREFIX + 24, DIM), GRID, PREFIX)
    rows = torch.arange(len(full.x)).view(batch, -1)
    if kind == "full":
        return full
    if kind == "ragged":
        keep = torch.rand(len(full.x)) < 0.5
        return full.select(keep | full.is_prefix())
    kept, gone = rows[:, :15].flatten(), rows[:, 15:].flatten()
    if kind == "pending":
        return full.take(kept, (15,) * batch, gone)
    return full.merge(kept, (15,) * batch, gone, rows[:, 2:12].flatten())


@pytest.mark.parametrize("kind", ["full", "ragged", "pending", "merged"])
def test_all_that_is_known_of_the_others_moves_with_them(kind):
    before, new = a_set(kind), torch.randn(2, NEW, DIM)
    after = before.prepend(new)
    assert (after.positions, after.prefix, after.late) == (25 + NEW, PREFIX + NEW, NEW)
    assert after.counts == tuple(n + NEW for n in before.counts) and after.is_full == before.is_full
    restored = after.restore()
    assert torch.equal(restored[:, :NEW], new) and torch.equal(restored[:, NEW:], before.restore())
    assert after.is_prefix(NEW).sum() == 2 * NEW
    old_x, old_sizes = after.split_prefix(after.x, NEW)[1], after.split_prefix(after.sizes(), NEW)
    assert torch.equal(old_x, before.x) and torch.equal(old_sizes[1], before.sizes()) and (old_sizes[0] == 1).all()
    assert torch.equal(after.members(), torch.cat([torch.ones(2, NEW, dtype=torch.bool), before.members()], 1))
    # A new map reaches the same tokens.
    new_map = torch.randn(2, 25 + NEW, DIM)
    same = before.with_dense(new_map[:, NEW:])
    assert torch.allclose(after.split_prefix(after.with_dense(new_map).x, NEW)[1], same.x)
    again = after.prepend(new)
    assert again.late == 2 * NEW and torch.equal(again.restore()[:, NEW:], restored)


def test_it_refuses_what_it_cannot_extend():
    full = a_set("full")
    with pytest.raises(ValueError, match="3 images of new tokens do not fit a set of 2"):
        full.prepend(torch.zeros(3, 1, DIM))
    fixed = select_at_most(full, torch.ones(50, dtype=torch.bool), 50, torch.rand(50))
    with pytest.raises(ValueError, match="prepend is not for a set of fixed capacity"):
        fixed.prepend(torch.zeros(2, 1, DIM))


@pytest.mark.parametrize("kind", ["full", "ragged", "merged"])
def test_the_class_token_is_behind_the_late_ones(kind):
    from token_pruning.attention import QKV

    tokens = a_set(kind).prepend(torch.randn(2, NEW, DIM))
    qkv = QKV(*(torch.randn(len(tokens.x), 2, 4) for _ in range(3)))
    found = class_attention(tokens, qkv)
    start = 0
    for n in tokens.counts:
        q, k = qkv.q[start + NEW], qkv.k[start : start + n]
        torch.testing.assert_close(found[start : start + n], ((q * k).sum(-1) / 2).softmax(0))
        start += n


def test_a_merged_token_is_visible_where_the_mean_of_its_positions_is():
    tokens = a_set("merged")
    visible = torch.randn(2, 25, 5)
    found = visible_tokens(tokens, visible)
    owner = tokens.assignment
    for row, position in enumerate(tokens.index.tolist()):
        mine = visible.flatten(0, 1)[owner == position]
        assert torch.equal(found[row], mine.mean(0) > 0)


def run(vit, reducer, x, queries, visible=None, training=False):
    """Run four blocks, with the queries entering before the third; return the restored map and the sets."""
    vit.reducer = reducer
    vit.train(training)
    stack = vit.start(x, score_fn)
    stack.run(0, 1)
    stack.prepend(queries.expand(len(x), -1, -1))
    stack.run(2, 3, visible)
    return stack.finish(with_prefix=True), stack


def a_vit():
    torch.manual_seed(0)
    vit = PlainViT(img_size=(64, 96), patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=2, class_token=True)
    for block in vit.blocks:
        nn.init.normal_(block.attn.qkv.weight, std=0.3)
    return vit, torch.randn(1, NEW, DIM)


def visible_of(batch):
    torch.manual_seed(3)
    rows = torch.randn(batch, 97 + NEW, NEW)
    rows[:, : 1 + NEW] = torch.inf
    return rows


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reducer", VARIANTS)
def test_every_method_goes_on_after_queries_entered(reducer, masked):
    vit, queries = a_vit()
    built = build_reducer(reduced(reducer, grid=96), DIM, DEPTH)
    visible = visible_of(3) if masked else None
    with torch.no_grad(), Trace() as trace:
        out, stack = run(vit, built, images(), queries, visible)
        assert out.shape == (3, 97 + NEW, DIM) and out.isfinite().all()
        if getattr(built, "seed", 0) is not None:  # else a mode draws new noise
            if reducer.get("mode") != "sample":
                ones = [
                    run(vit, built, images()[i : i + 1], queries, None if visible is None else visible[i : i + 1])[0]
                    for i in range(3)
                ]
                torch.testing.assert_close(torch.cat(ones), out, atol=2e-5, rtol=1e-4)
    first = trace.passes[0]
    assert first.masks().shape == (3, DEPTH, 8, 12)
    assert stack.tokens.late == NEW and stack.tokens.prefix == 1 + NEW
    for block in (2, 3):
        assert first.used[block][:, :NEW].all()  # no query is ever left out


@pytest.mark.parametrize("name", ALL)
def test_keep_all_equals_dense(name):
    vit, queries = a_vit()
    with torch.no_grad():
        dense, _ = run(vit, None, images(), queries, visible_of(3))
        kept, _ = run(vit, build_reducer(keep_all(name), DIM, DEPTH), images(), queries, visible_of(3))
    torch.testing.assert_close(kept, dense, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("reducer", VARIANTS)
def test_training_reaches_queries_and_reducer(reducer):
    vit, queries = a_vit()
    queries.requires_grad_()
    built = build_reducer(reduced(reducer, grid=96), DIM, DEPTH)
    with collect_losses(criterion) as losses:
        out, _ = run(vit, built, images(), queries, visible_of(3), training=True)
    (out.square().mean() + sum(v for k, v in losses.items() if "loss" in k)).backward()
    assert queries.grad.abs().sum() > 0
    assert all(p.grad is not None for p in built.parameters())


def test_masked_attention_is_the_masked_softmax():
    vit, queries = a_vit()
    block, visible = vit.blocks[0], visible_of(2)
    tokens = TokenSet.full(torch.randn(2, 97, DIM), (8, 12), 1).prepend(queries.expand(2, -1, -1))
    stack = StackForward([block], None, tokens.restore(), (8, 12), 1 + NEW)
    stack.run(0, 0, visible)
    x = tokens.restore()
    q, k, v = block.attn.qkv(block.norm1(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    mask = torch.ones(2, 100, 100, dtype=torch.bool)
    mask[:, :NEW] = (visible > 0).transpose(1, 2)
    attended = logits.masked_fill(~mask[:, None], -torch.inf).softmax(-1) @ v
    x = x + block.attn.proj(attended.transpose(1, 2).flatten(2))
    torch.testing.assert_close(stack.finish(with_prefix=True), x + block.mlp(block.norm2(x)))


def test_new_tokens_are_not_rotated():
    rope = RotaryEmbeddingCat(12, in_pixels=False, ref_feat_shape=(4, 6))
    table = rope_with_prefix(rope.get_embed(GRID), PREFIX)
    block = EvaBlock(DIM, 2, swiglu_mlp=True).eval()
    x, new = torch.randn(2, 25, DIM), torch.randn(2, NEW, DIM)
    late = StackForward([block], None, x, GRID, PREFIX, rope=table)
    late.prepend(new)
    late.run(0, 0)
    early = StackForward([block], None, torch.cat([new, x], 1), GRID, PREFIX + NEW, rope=rope_with_prefix(table, NEW))
    early.run(0, 0)
    assert torch.equal(late.finish(True), early.finish(True))
    assert torch.equal(late.rope[:NEW], torch.cat([torch.zeros(NEW, 12), torch.ones(NEW, 12)], dim=1))
