"""DToP: the exit rule against loops over images and classes, score functions, and which tokens leave."""

import pytest
import torch
from reducers import DEPTH, DIM, images, score_fn

from token_pruning import DToP, PlainViT, Trace, build_reducer, collect_losses
from token_pruning.counts import Counts
from token_pruning.methods.dtop import confident_tokens


def by_loops(scores, counts, threshold, k):
    leaves = []
    for part in scores.split(counts):
        value, label = part.max(1)
        leave = value > threshold
        for c in range(scores.shape[1]):
            easy = ((value > threshold) & (label == c)).nonzero().flatten().tolist()
            for place in sorted(easy, key=lambda i: -value[i])[:k]:  # stable: of equal ones the earlier
                leave[place] = False
        leaves.append(leave)
    return torch.cat(leaves)


@pytest.mark.parametrize("counts", [[40, 40, 40], [70, 0, 1, 49], [120]])
@pytest.mark.parametrize("k", [0, 1, 5, 200])
def test_the_rule_equals_loops_over_images_and_classes(counts, k):
    generator = torch.Generator().manual_seed(4)
    scores = torch.randint(0, 12, (120, 3), generator=generator) / 12  # coarse: many are equal
    scores[7, 1] = scores[50] = torch.nan
    leave = confident_tokens(scores, Counts.of(counts), 0.5, k)
    assert torch.equal(leave, by_loops(scores, counts, 0.5, k))
    assert leave.any() == (k < 200) and not leave[[7, 50]].any()


def test_equality_is_not_confident_and_protected_tokens_do_not_count():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.5]])
    assert confident_tokens(scores, Counts.equal(4, 1), 0.5, 1).tolist() == [False, True, True, False]
    candidates = torch.tensor([False, True, True, True])
    assert confident_tokens(scores, Counts.equal(4, 1), 0.5, 1, candidates).tolist() == [False, False, True, False]


def a_vit(class_token=True, **kwargs):
    torch.manual_seed(0)
    return PlainViT(
        img_size=64,
        embed_dim=DIM,
        depth=DEPTH,
        num_heads=3,
        class_token=class_token,
        reducer=dict(type="DToP", stages=[0, 2], **kwargs),
    ).eval()


@torch.no_grad()
def test_the_score_fn_of_the_host_sees_the_remaining_tokens():
    seen = []

    def host(block, tokens):
        seen.append((block, tokens.counts))
        return score_fn(block, tokens)

    vit = a_vit(threshold=[0.6, 0.5], keep_per_class=1, score_fn=lambda *_: 1 / 0)
    stack = vit.start(images(), host)
    stack.run(0, DEPTH - 1)
    (first, before), (second, after) = seen
    assert (first, second) == (0, 2) and before == (25,) * 3 and max(after) < 25 and len(set(after)) > 1


@torch.no_grad()
def test_the_trace_says_after_which_block_each_token_left():
    vit = a_vit(threshold=[0.6, 0.5], keep_per_class=1, score_fn=score_fn)
    with Trace() as trace:
        stack = vit.start(images())
        stack.run(0, 0)
        first = stack.tokens.members()
        stack.run(1, DEPTH - 1)
    last, there = trace.passes[0].last_use(), stack.tokens.members()
    wanted = torch.where(there, DEPTH - 1, torch.where(first, 2, 0))[:, 1:].unflatten(1, (4, 6))
    assert torch.equal(last, wanted) and set(last.unique().tolist()) == {0, 2, 3}
    trace.passes[0].used = {block: mask & False for block, mask in trace.passes[0].used.items()}
    assert (trace.passes[0].last_use() == -1).all()


@torch.no_grad()
def test_without_a_threshold_no_token_exits_and_no_score_fn_is_needed():
    vit = a_vit(threshold=None)
    stack = vit.start(images())
    stack.run(0, DEPTH - 1)
    assert stack.tokens.is_full and vit.reducer.pruned_blocks == []
    assert a_vit(threshold=[None, 0.5]).reducer.pruned_blocks == [3]


@pytest.mark.parametrize("class_tokens, kept", [("protect", 1), ("score", 0)])
@torch.no_grad()
def test_class_tokens_stay_unless_they_are_scored(class_tokens, kept):
    vit = a_vit(class_tokens=class_tokens, keep_per_class=0, score_fn=lambda _, tokens: torch.ones(len(tokens.x), 2))
    stack = vit.start(images())
    stack.run(0, DEPTH - 1)
    assert stack.tokens.counts == (kept,) * 3


def test_training_logs_the_keep_ratio_after_each_stage():
    vit = a_vit(threshold=[None, 0.5], keep_per_class=1, score_fn=score_fn).train()
    stack = vit.start(images())
    with collect_losses() as reported:
        stack.run(0, DEPTH - 1)
        stack.finish()
    assert reported.keys() == {"keep_ratio.2"}
    assert reported["keep_ratio.2"].item() == pytest.approx(sum(stack.tokens.counts) / 75)


@pytest.mark.parametrize(
    "kwargs, sentence",
    [
        (dict(stages=[3]), "stages = .3.: list block numbers from 0 to 2, ascending"),
        (dict(stages=[]), "stages = ..: list block numbers"),
        (dict(stages=[1, 0]), "ascending, each once"),
        (dict(threshold=0), "threshold = 0: give one in .0, 1. or None"),
        (dict(threshold=1.1), "threshold = 1.1: give one"),
        (dict(stages=[0, 1], threshold=[0.5]), "or one for each of the 2 stages"),
        (dict(keep_per_class=-1), "keep_per_class is -1; it must be a whole number, 0 or more"),
        (dict(keep_per_class=2.5), "keep_per_class is 2.5"),
        (dict(class_tokens="keep"), "class_tokens is 'keep'; choose 'protect' or 'score'"),
    ],
)
def test_arguments_out_of_range_are_one_sentence(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_reducer(dict(type="DToP", **kwargs), DIM, DEPTH)


def test_a_missing_score_fn_is_one_sentence():
    with pytest.raises(ValueError, match="by the class scores of an auxiliary head, and there are none"):
        a_vit().start(images())


def test_the_default_stages_are_the_published_ones_of_size_b():
    assert DToP(DIM, 12).stages == [5, 7]
