"""Counted FLOPs against the closed form, and the records of a trace."""

import torch

from token_pruning import PlainViT, Trace, count_flops
from token_pruning.analysis.flops import block_flops

DIM, DEPTH = 24, 4


def run(reducer, image):
    torch.manual_seed(0)
    vit = PlainViT(img_size=64, embed_dim=DIM, depth=DEPTH, num_heads=3, reducer=reducer).eval()
    with torch.no_grad():
        stack = vit.start(image)
        with Trace() as unused, count_flops() as flops:
            stack.run(0, DEPTH - 1)
        assert not unused.passes
    return flops, stack


def test_dense_blocks_match_the_closed_form():
    flops, _ = run(None, torch.randn(2, 3, 64, 96))
    assert flops.total == 2 * DEPTH * block_flops(24, DIM)
    assert flops.gmacs == flops.total / 2e9


def test_pruned_blocks_count_only_kept_tokens():
    ratios = [1.0, 0.5, 0.25, 0.125]
    flops, _ = run(dict(type="Random", blocks=[0, 1, 2, 3], keep_ratio=ratios), torch.randn(2, 3, 64, 64))
    assert flops.total == 2 * sum(block_flops(round(16 * r), DIM) for r in ratios)


def test_trace_records_the_computed_tokens_of_each_block():
    torch.manual_seed(0)
    vit = PlainViT(
        img_size=64, embed_dim=DIM, depth=DEPTH, num_heads=3, reducer=dict(type="Random", blocks=[1, 3], keep_ratio=0.5)
    ).eval()
    with torch.no_grad(), Trace() as trace:
        for _ in range(2):
            stack = vit.start(torch.randn(2, 3, 64, 96))
            stack.run(0, DEPTH - 1)
    assert len(trace.passes) == 2 and trace.passes[0].blocks == [0, 1, 2, 3]
    assert trace.passes[0].masks().shape == (2, 4, 4, 6)
    assert trace.passes[0].keep_ratio()[0].tolist() == [1, 0.5, 1, 0.5]
