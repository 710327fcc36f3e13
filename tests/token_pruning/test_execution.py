"""All executions of a pruned block give the same outputs: exact, fixed capacity, packed training, compiled."""

import pytest
import torch

from token_pruning import (
    Decision,
    PlainViT,
    Reducer,
    TokenSet,
    Trace,
    attention,
    collect_losses,
    count_flops,
    run_block,
)
from token_pruning import forward as module
from token_pruning.analysis.flops import block_flops
from token_pruning.attention import QKV, _masked, packed_attention
from token_pruning.capacity import select_at_most

DIM, DEPTH = 24, 4
SVIT = dict(type="SViT", blocks=[1, 2, 3], keep_ratio=[0.8, 0.5, 0.3])


def a_vit(reducer=SVIT, **kwargs):
    torch.manual_seed(0)
    vit = PlainViT(img_size=64, embed_dim=DIM, depth=DEPTH, num_heads=3, reducer=reducer, **kwargs).eval()
    for name, parameter in vit.named_parameters():
        if "selectors" in name and name.endswith("fc2.weight"):
            torch.nn.init.normal_(parameter, std=2.0, generator=torch.Generator().manual_seed(2))
    return vit


def images(batch=3, height=128, width=160):
    # Images of different contrast, so that selectors keep different numbers of tokens.
    x = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    return x * torch.arange(1, batch + 1).view(-1, 1, 1, 1)


def forward(vit, x):
    stack = vit.start(x)
    stack.run(0, DEPTH - 1)
    return stack.finish()


def traced(vit, x):
    with Trace() as trace:
        out = forward(vit, x)
    return out, trace.passes[0].masks()


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(module, "STEP", 8)


@pytest.mark.parametrize("mode", ["target", "threshold", "ratio", "sample"])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_capacity_equals_exact_where_it_suffices(mode, batch, small_steps):
    vit = a_vit(dict(SVIT, mode=mode, seed=0, capacity_scale=4.0))
    exact, masks = traced(vit, images(batch))
    assert masks.float().mean() < 1
    vit.execution = "capacity"
    out, same = traced(vit, images(batch))
    assert torch.equal(masks, same)
    torch.testing.assert_close(out, exact, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_beyond_capacity_the_lowest_scores_are_dropped(small_steps):
    vit = a_vit(dict(SVIT, blocks=[2], keep_ratio=0.5, mode="sample", seed=0))
    start = vit.start(images())
    start.run(0, 1)
    before = start.map()
    kept = start.reducer.before_block(2, start.tokens, start.state)
    capacity = int(kept.keep.sum()) // 2 // 8 * 8
    vit.execution = "capacity"
    vit.reducer.capacity_scale = capacity / len(kept.keep) / 0.5
    out, masks = traced(vit, images())
    used = masks[:, 2].flatten()
    assert used.sum() == capacity and not (used & ~kept.keep).any()
    assert kept.score[used].min() >= kept.score[kept.keep & ~used].max()
    stack = vit.start(images())
    stack.run(0, 2)
    assert torch.equal(stack.map().flatten(0, 1)[~used], before.flatten(0, 1)[~used])


@torch.no_grad()
def test_a_known_number_needs_no_capacity():
    """Mode "ratio" keeps a number known to the host: no row is unused, and images do not depend on each other."""
    vit = a_vit(dict(SVIT, mode="ratio"), execution="capacity")
    with count_flops() as flops:
        forward(vit, images())
    wanted = [80, 64, 40, 24]
    selectors = 3 * 3 * 80 * 2 * (DIM * 6 + 6 * 2)
    patches = 3 * 80 * 2 * DIM * 768
    assert flops.total == 3 * sum(block_flops(n, DIM) for n in wanted) + selectors + patches


@torch.no_grad()
def test_nothing_kept_and_everything_kept_in_fixed_capacity():
    x = torch.randn(2, 20, DIM)
    tokens = TokenSet.full(x, (4, 5))
    score = torch.randn(40)
    for keep, capacity in ((score > 9, 16), (score < 9, 40), (torch.arange(40) < 20, 24)):
        subset = select_at_most(tokens, keep, capacity, score)
        exact = tokens.select(keep)
        assert len(subset.x) == capacity and torch.equal(subset.members().flatten(), keep)
        number = int(keep.sum())
        assert torch.equal(subset.x[:number], exact.x) and subset.x[number:].abs().sum() == 0
        assert subset.offsets.tolist() == [0, exact.counts[0], number, capacity]
        assert torch.equal(subset.with_x(subset.x * 2 + 1).restore(), exact.with_x(exact.x * 2 + 1).restore())
    assert len(select_at_most(tokens, keep, 41, score).x) == 40
    with pytest.raises(ValueError, match="needs a full set"):
        select_at_most(exact, keep[:20], 8, score[:20])


@torch.no_grad()
def test_values_of_unused_rows_reach_no_token():
    tokens = TokenSet.full(torch.randn(2, 20, DIM), (4, 5))
    keep, score = torch.rand(40) < 0.5, torch.randn(40)
    subset, exact = select_at_most(tokens, keep, 32, score), tokens.select(keep)
    number = len(exact.x)
    wanted = packed_attention(_qkv(exact.x), exact)
    spoilt = subset.x.clone()
    spoilt[number:] = 1e4
    torch.testing.assert_close(_masked(_qkv(spoilt), subset)[:number], wanted)


def _qkv(x):
    return QKV(*(t.view(len(x), 3, DIM // 3) for t in (x, x.roll(1, 1), x.roll(2, 1))))


@torch.no_grad()
def test_nan_stays_where_it_is():
    """Unused rows are copies of the last token; a NaN there must reach no kept token, not even in a batch of one."""
    x = torch.randn(1, 20, DIM)
    x[0, -1] = float("nan")
    tokens, keep = TokenSet.full(x, (4, 5)), torch.arange(20) < 9
    block = a_vit(None).blocks[0]
    wanted = run_block(block, tokens.select(keep)).restore()
    out = run_block(block, select_at_most(tokens, keep, 16, torch.randn(20))).restore()
    torch.testing.assert_close(out, wanted, equal_nan=True)
    lowest = torch.full((20,), -torch.inf)
    assert torch.equal(select_at_most(tokens, keep, 12, lowest).members()[0], keep)


@torch.no_grad()
def test_a_set_of_fixed_capacity_rejects_what_it_cannot_do():
    tokens, keep = TokenSet.full(torch.randn(2, 20, DIM), (4, 5)), torch.arange(40) < 9
    subset = select_at_most(tokens, keep, 16, torch.randn(40))
    for call in (
        lambda: subset.select(keep[:16]),
        lambda: subset.with_dense(tokens.dense),
        subset.is_prefix,
        lambda: subset.to_map(keep[:16]),
    ):
        with pytest.raises(ValueError, match="is not for a set of fixed capacity"):
            call()
    with pytest.raises(ValueError, match=r"counts \(5, 5\) are 10 tokens and keep has 9"):
        tokens.select(keep, (5, 5))


@torch.no_grad()
def test_flash_attention_gets_the_right_segments(monkeypatch):
    """Check the variable-length call on CUDA with a loop over segments in place of the kernel."""

    def by_segments(q, k, v, offsets_q, offsets_k, longest_q, longest_k):
        assert offsets_q.dtype == torch.int32 and offsets_q[0] == 0 and offsets_q[-1] == len(q)
        parts = []
        for a, b in zip(offsets_q[:-1].tolist(), offsets_q[1:].tolist(), strict=True):
            assert b - a <= min(longest_q, longest_k)
            parts.append(attention._attend(QKV(q[a:b], k[a:b], v[a:b]), 1, None, 0.0))
        return torch.cat(parts)

    tokens = TokenSet.full(torch.randn(3, 20, DIM), (4, 5))
    keep = torch.rand(60) < torch.tensor([0.2, 0.0, 0.9]).repeat_interleave(20)
    exact, fixed = tokens.select(keep), select_at_most(tokens, keep, 40, torch.randn(60))
    wanted = packed_attention(_qkv(exact.x), exact)
    monkeypatch.setattr(attention, "varlen_attn", by_segments)
    monkeypatch.setattr(attention, "_has_flash", lambda qkv: True)
    torch.testing.assert_close(packed_attention(_qkv(exact.x), exact), wanted)
    torch.testing.assert_close(packed_attention(_qkv(fixed.x), fixed)[: len(wanted)], wanted)


def test_packed_training_without_tokens_gives_every_parameter_a_gradient():
    """Distributed training waits for the gradient of every parameter."""
    block = a_vit(None).blocks[0]
    x = torch.randn(1, 20, DIM, requires_grad=True)
    nothing = TokenSet.full(x, (4, 5)).select(torch.zeros(20, dtype=torch.bool))
    run_block(block, nothing).restore().sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in block.parameters())


@pytest.mark.parametrize("reducer", [SVIT, dict(type="Random")], ids=["SViT", "Random"])
@torch.no_grad()
def test_no_image_at_all(reducer):
    assert forward(a_vit(reducer), images(1)[:0]).shape == (0, 80, DIM)


@torch.no_grad()
def test_position_tables_follow_the_weights():
    vit = a_vit(None)
    first = vit.positions((8, 10))
    assert vit.positions((8, 10)) is first
    vit.pos_embed.mul_(2)
    torch.testing.assert_close(vit.positions((8, 10)), 2 * first)
    vit.pos_embed.data.copy_(vit.pos_embed.data / 2)  # as an EMA hook swaps weights, before evaluation
    torch.testing.assert_close(vit.eval().positions((8, 10)), first)


class Dropping(Reducer):
    """Keeps a number of tokens that it reports nowhere."""

    def before_block(self, block, tokens, state):
        return Decision(tokens.x[:, 0] > 0)


def test_capacity_needs_counts_or_scores():
    vit = a_vit(Dropping(DIM, DEPTH), execution="capacity")
    with pytest.raises(ValueError, match="Dropping gives neither the number of tokens that it keeps nor their scores"):
        forward(vit, images())
    with pytest.raises(ValueError, match="execution is 'fast'; choose 'exact' or 'capacity'"):
        a_vit(execution="fast")


def gradients(vit, x):
    vit.zero_grad()
    torch.manual_seed(5)
    with collect_losses() as losses, Trace() as trace, count_flops() as flops:
        out = forward(vit, x)
    (out.square().mean() + losses["loss_ratio"]).backward()
    return out.detach(), trace.passes[0].masks(), flops.total


def test_packed_training_computes_the_same_with_less():
    exact, packed = (a_vit(dict(SVIT, training=training)).train() for training in ("exact", "packed"))
    dense = a_vit(None).train()
    wanted, masks, flops = gradients(exact, images())
    out, same, fewer = gradients(packed, images())
    assert torch.equal(masks, same)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)
    with count_flops() as of_dense:
        forward(dense, images())
    assert fewer < of_dense.total < flops
    # In the last block no output of a dropped token is used, so gradients agree there; and they reach every parameter.
    for name, parameter in packed.named_parameters():
        other = dict(exact.named_parameters())[name]
        if name.startswith("blocks.3.") and "norm1" not in name and "qkv" not in name:
            torch.testing.assert_close(parameter.grad, other.grad, atol=1e-5, rtol=1e-4)
        if name != "pos_embed":
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_an_unknown_training_mode_is_one_sentence():
    with pytest.raises(ValueError, match="training is 'sparse'; choose one of exact, packed"):
        a_vit(dict(SVIT, training="sparse"))


@torch.no_grad()
def test_capacity_compiles_into_one_graph(small_steps):
    torch._dynamo.reset()
    vit = a_vit(dict(SVIT, capacity_scale=4.0))
    exact = forward(vit, images())
    vit.execution = "capacity"
    compiled = torch.compile(lambda x: forward(vit, x), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images()), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7, 0.9])
@torch.no_grad()
def test_only_kept_tokens_are_computed(ratio):
    """Every counted operation of the blocks is on a kept token, though images keep very different numbers."""
    vit = a_vit(dict(SVIT, blocks=[1, 2, 3], keep_ratio=ratio))
    with Trace() as trace, count_flops() as flops:
        stack = vit.start(images(8))
        stack.run(0, DEPTH - 1)
    kept = trace.passes[0].masks().flatten(2).sum(-1)  # (B, L)
    wanted = sum(block_flops(int(n), DIM) for n in kept.flatten())
    overhead = 3 * 8 * 80 * 2 * (DIM * 6 + 6 * 2) + 8 * 80 * 2 * DIM * 768
    assert flops.total == wanted + overhead


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "reducer",
    [
        dict(SVIT, capacity_scale=4.0),
        dict(SVIT, mode="ratio"),
        dict(SVIT, mode="sample", seed=1, capacity_scale=4.0),
        dict(type="Random"),
    ],
    ids=["target", "ratio", "sample", "Random"],
)
@torch.no_grad()
def test_capacity_on_cuda_does_not_synchronize_and_equals_exact(reducer, dtype, batch, small_steps):
    vit, x = a_vit(reducer).cuda(), images(batch).cuda()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        exact = forward(vit, x)
        vit.execution = "capacity"
        forward(vit, x)  # the first call may initialize libraries
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            out = forward(vit, x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(out, exact, atol=tolerance, rtol=tolerance)
