"""Counted multiply-adds of ToMe, PiToMe and MPM against a published table that counts the matching, too.

The table (arXiv 2609.37272) is of a DeiT-Ti with a linear head on the restored grid. It also counts 2 n C multiply-adds
of each merge of n tokens (N C of MPM's), which are elementwise here and therefore not counted.
"""

import pytest
import torch
from fixture_files import of_kind
from timm.models.vision_transformer import VisionTransformer

import token_pruning
from token_pruning import Trace, count_flops

DIM, DEPTH = 192, 12
ROWS = [row for record in of_kind("merging_anchors") for row in record.values[0]["rows"]]
REDUCERS = {
    "full": lambda setting: None,
    "tome": lambda setting: dict(type="ToMe", r=setting),
    "pitome": lambda setting: dict(type="PiToMe", keep_ratio=setting, prop_attn=True),
    "mpm": lambda setting: dict(type="MPM", blocks=setting),
}


def counted(row):
    """Return the multiply-adds and the trace of one image through the row's model."""
    size = row["height"], row["width"]
    vit = VisionTransformer(size, embed_dim=DIM, depth=DEPTH, num_heads=3, num_classes=0, global_pool="").eval()
    head = torch.nn.Linear(DIM, row["classes"])
    # Smooth, as images are.
    image = torch.nn.functional.interpolate(torch.randn(1, 3, size[0] // 32, size[1] // 32), size, mode="bilinear")
    token_pruning.apply(vit, REDUCERS[row["method"]](row["setting"]))
    with torch.no_grad(), Trace() as trace, count_flops() as flops:
        head(vit(image)[:, 1:])
    return flops.total // 2, trace.passes[0]


def named(rows):
    return [pytest.param(row, id=f"{row['data']}-{row['method']}-{row['setting']}") for row in rows]


@pytest.mark.parametrize("row", named(row for row in ROWS if row["macs"]))
def test_published_multiply_adds(row):
    macs, _ = counted(row)
    per_block = left_in_blocks(row)
    merging = sum(2 * n * DIM for n in per_block[:-1] if row["method"] != "full")
    assert macs + merging == pytest.approx(row["macs"], rel=1e-3)
    assert (macs + merging) / 1e9 == pytest.approx(row["gflops"], rel=1e-3)
    assert per_block[-1] == row["tokens_left"]


def left_in_blocks(row):
    """Return the number of tokens that enters each block, and that of the end."""
    counts = [row["height"] * row["width"] // 256 + 1]
    for _ in range(DEPTH):
        n = counts[-1]
        gone = {
            "full": 0,
            "tome": min(row["setting"] or 0, (n - 1) // 2),
            "pitome": int((n - 1) - (n - 1) * (row["setting"] or 1)) if row["method"] == "pitome" else 0,
        }[row["method"]]
        counts.append(n - gone)
    return counts


@pytest.mark.parametrize("row", named(row for row in ROWS if row["method"] == "mpm"))
def test_mpm_costs_what_its_tokens_cost(row):
    """How many tokens it merges depends on weights and images: the closed form on the tokens of this forward."""
    torch.manual_seed(0)
    macs, trace = counted(row)
    patches = row["height"] * row["width"] // 256
    tokens = [int(trace.used[block].sum()) for block in range(DEPTH)]
    wanted, before = (768 + row["classes"]) * DIM * patches, patches + 1
    for block, n in enumerate(tokens):
        if block in row["setting"]:
            assert 0.5 * before <= n < before
            wanted += (before - 1) ** 2 * DIM
        wanted += 12 * n * DIM**2 + 2 * n**2 * DIM
        before = n
    assert macs == wanted
    assert row["macs_if_half_merged"] < macs < row["macs_if_nothing_merged"]
