"""Every registered reducer, its options, and what tests need to set them to work: the contract tests stand on this."""

import pytest
import torch

from token_pruning import METHODS

DIM, DEPTH = 24, 4
ALL = sorted(METHODS)
# Every method as it is by default, and the options that change what a forward does.
OPTIONS = dict(
    SViT=[
        dict(mode="threshold"),
        dict(mode="ratio"),
        dict(mode="sample", seed=3),
        dict(ratio_scale=0.7),
        dict(inherit=True),
        dict(inherit=True, mode="ratio"),
        dict(preserve=False),
        dict(selectors=[0, 0, 1]),
        dict(selectors=[0, 0, 1], reuse=False),
        dict(ratio_loss="image"),
        dict(gate="dynamicvit"),
        dict(gate="dynamicvit", inherit=True),
        dict(class_tokens="score"),
    ],
    PPT=[
        dict(threshold=0.0),
        dict(threshold=1.0),
        dict(relative=True, threshold=2.0),
        dict(r=0.2),
        dict(order="map"),
        dict(prop_attn=False),
        dict(r=[0, 6]),
        dict(blocks=[0, 2]),
        dict(protect="class"),
    ],
    ToMe=[dict(order="map"), dict(prop_attn=False), dict(inflection=-1.0), dict(blocks=[2, 3])],
    EViT=[dict(fuse=False), dict(blocks=[0, 2])],
    EvoViT=[dict(decide=[1]), dict(tradeoff=[1.0, 1.0, 0.5, 0.5]), dict(blocks=[2, 3])],
    DynamicViT=[dict(preserve=False), dict(blocks=[1, 3])],
    ATS=[dict(blocks=[0, 1, 2, 3])],
    DToP=[dict(stages=[0, 2], threshold=[0.9, 0.6]), dict(keep_per_class=0)],
    Cropr=[
        dict(fusion=False),
        dict(prune_after=[1], fusion=False),
        dict(pre_norm=True, v_proj=True, mlp_ratio=None),
        dict(num_queries=5, num_sampled_queries=3, num_heads=2, q_proj=True, k_proj=True),
        dict(ranking="inverted"),
        dict(ranking="random"),
    ],
    Random=[],
)
VARIANTS = [pytest.param(dict(type=name), id=name) for name in ALL]
VARIANTS += [
    pytest.param(dict(type=name, **kwargs), id=f"{name} " + " ".join(f"{k}={v}" for k, v in kwargs.items()))
    for name in ALL
    for kwargs in OPTIONS[name]
]
KEEP_ALL = {name: dict(r=0) if METHODS[name].cost_param[0] == "r" else dict(keep_ratio=1.0) for name in ALL}
KEEP_ALL["DToP"] = dict(threshold=None)
KEEP_ALL["SViT"] = dict(keep_ratio=1.0, mode="ratio")
# A PPT threshold between the scores' variances of the images here, so that some prune and some pool.
BETWEEN = 3.5e-3


def reduced(reducer, keep=0.5, grid=24):
    """``reducer`` with about ``keep`` of a grid's tokens left in the end, whatever its cost parameter is."""
    cut = (
        dict(r=max(int((1 - keep) * grid / DEPTH), 1))
        if METHODS[reducer["type"]].cost_param[0] == "r"
        else dict(keep_ratio=keep)
    )
    if reducer["type"] == "DToP":  # a share is no cost parameter of it, and it needs somebody to judge
        cut = dict(threshold=0.6, keep_per_class=1, score_fn=score_fn)
    if reducer["type"] == "Cropr":  # it learns from labels
        cut = dict(cut, criterion=criterion, num_classes=4)
    if reducer["type"] == "PPT":
        cut["threshold"] = BETWEEN
    return {**cut, **reducer}


def score_fn(block, tokens):
    """Scores (T, 4) of tokens (T, C), for methods that ask a host's head."""
    return (tokens.x[:, :4].float() * 2).softmax(dim=1)


def criterion(answer):
    """A loss of what auxiliary heads say (B, Q, K), for methods that learn by a host's labels."""
    return answer.logits.square().mean()


def images(batch=3, height=64, width=96):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def scattered(vit):
    """Selectors and attention with opinions: default ones are close to undecided."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in vit.named_parameters():
        if name.startswith("reducer.") and name.endswith("fc2.weight"):
            torch.nn.init.normal_(parameter, std=2.0, generator=generator)
        elif name.endswith("qkv.weight"):
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return vit
