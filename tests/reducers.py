"""The registered reducers with their options, and what the contract tests need to run them.

A new method needs no entry here: it is tested with its defaults, at about half of the tokens.
"""

import inspect

import pytest
import torch

from token_pruning import METHODS

DIM, DEPTH = 24, 4
SHIFT = dict(score="representation_shift")
ALL = sorted(METHODS)
# Options that change what a forward does; a method is tested with each, and with its defaults.
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
        dict(SHIFT, threshold=0.0),
        dict(SHIFT, threshold=1e-4),
        dict(SHIFT, threshold=1.0),
    ],
    ToMe=[dict(order="map"), dict(prop_attn=False), dict(inflection=-1.0), dict(blocks=[2, 3])],
    MPM=[dict(blocks=[0, 1, 3]), dict(merges=3)],
    PiToMe=[
        dict(matching="standard"),
        dict(matching=["standard", "bsm"]),
        dict(prop_attn=True),
        dict(margin=0.3, blocks=[1, 3]),
    ],
    ALGM=[
        dict(window=[1, 3]),
        dict(order="map"),
        dict(blocks=[1, 2, 3]),
        dict(threshold=None, blocks=[0, 1]),
    ],
    EViT=[dict(fuse=False), dict(blocks=[0, 2]), dict(SHIFT), dict(SHIFT, fuse=False)],
    EvoViT=[dict(SHIFT), dict(decide=[1]), dict(tradeoff=[1.0, 1.0, 0.5, 0.5]), dict(blocks=[2, 3])],
    DynamicViT=[dict(preserve=False), dict(blocks=[1, 3])],
    APT=[
        dict(scales=2, thresholds=7.956),
        dict(thresholds=(8.0, 8.18), mean=(120.0, 120.0, 120.0), std=(60.0, 60.0, 60.0)),
        dict(then=dict(type="ToMe", r=2)),
        dict(then=dict(type="EViT", blocks=[1, 2])),
        dict(then=dict(type="Random", keep_ratio=0.7)),
        dict(then=dict(type="ATS")),
    ],
    ATS=[dict(blocks=[0, 1, 2, 3]), dict(SHIFT)],
    CubistMerge=[
        dict(rule="group"),
        dict(r=(1, 0)),
        dict(r=(0, 2)),
        dict(r=0.4),
        dict(block=0),
        dict(block=3),
        dict(r=1, window_size=3),
    ],
    DToP=[dict(stages=[0, 2], threshold=[0.9, 0.6]), dict(keep_per_class=0)],
    Cropr=[
        dict(fusion=False),
        dict(prune_after=[1], fusion=False),
        dict(pre_norm=True, v_proj=True, mlp_ratio=None),
        dict(num_queries=5, num_sampled_queries=3, num_heads=2, q_proj=True, k_proj=True),
        dict(ranking="inverted"),
        dict(ranking="random"),
    ],
)
# What sets how much a method prunes, for methods where neither `r` nor `keep_ratio` does, or not alone.
AMOUNTS = dict(
    # Between the entropies of the parts of the images here, so that each has patches of two or three sizes.
    APT=dict(thresholds=(7.956, 8.18)),
    DToP=dict(threshold=0.6, keep_per_class=1),
    # Between the variances of the scores of the images here, so that PPT prunes some and pools others.
    PPT=dict(threshold=3.5e-3),
    # The similarities of neighbours in images of noise are low.
    ALGM=dict(threshold=0.0),
    PiToMe=dict(keep_ratio=0.8),  # of every block
)


def variants(name):
    """Return the parameters of a test over one method: its defaults, then each of its options."""
    options = [{}, *OPTIONS.get(name, ())]
    return [
        pytest.param(dict(type=name, **kwargs), id=" ".join([name, *(f"{k}={v}" for k, v in kwargs.items())]))
        for kwargs in options
    ]


VARIANTS = [variant for name in ALL for variant in variants(name)]


def keep_all(name):
    """Return the config with which a method keeps every token."""
    return dict(type=name, **METHODS[name].keep_all)


def reduced(reducer, keep=0.5, grid=24):
    """Return the config ``reducer`` completed so that about ``keep`` of a grid's tokens are left in the end."""
    method = METHODS[reducer["type"]]
    arguments = inspect.signature(method).parameters
    amounts = dict(r=max(int((1 - keep) * grid / DEPTH), 1), keep_ratio=keep)
    amount = "r" if method.cost_param[0] == "r" else "keep_ratio"
    supplied = dict(score_fn=score_fn, criterion=criterion, num_classes=4)  # by the model around the backbone
    given = {amount: amounts[amount], **supplied}
    given = {name: value for name, value in given.items() if name in arguments}
    return {**given, **AMOUNTS.get(reducer["type"], {}), **reducer}


def score_fn(block, tokens):
    """Return class scores (T, 4) of tokens (T, C), as the head of a host does."""
    return (tokens.x[:, :4].float() * 2).softmax(dim=1)


def criterion(output):
    """Return a loss of the logits (B, Q, K) of an auxiliary head, in place of one with labels."""
    return output.logits.square().mean()


def images(batch=3, height=64, width=96):
    """Return the same random images at every call."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def scattered(vit):
    """Spread the weights of selectors and attention, whose initial scores are nearly equal."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in vit.named_parameters():
        if name.startswith("reducer.") and name.endswith("fc2.weight"):
            torch.nn.init.normal_(parameter, std=2.0, generator=generator)
        elif name.endswith("qkv.weight"):
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return vit
