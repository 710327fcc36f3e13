"""torch.export of the ViT-Adapter: one graph for any batch, with this project's operator or with grid_sample."""

from contextlib import nullcontext

import pytest
import torch
from reducers import scattered
from torch.export import Dim, export

from mmdet_custom import ViTAdapter
from token_pruning_ops import grid_sample, library


def images(batch):
    return torch.randn(batch, 3, 64, 96, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize(
    ("way", "reducer"),
    [("grid_sample", dict(type="SViT", mode="ratio")), ("compiled", None)],
    ids=["grid_sample", "compiled"],
)
@torch.no_grad()
def test_one_graph_for_any_batch_equals_the_model(way, reducer):
    if way == "compiled" and "cpu" in library.MISSING:
        pytest.skip(f"no compiled library: {library.MISSING['cpu']}")
    torch.manual_seed(0)
    layout = dict(interaction_indexes=[[0, 0], [1, 1]], conv_inplane=8, deform_num_heads=3, init_values=0.5)
    model = scattered(ViTAdapter(img_size=64, embed_dim=24, depth=2, num_heads=3, reducer=reducer, **layout)).eval()
    with grid_sample() if way == "grid_sample" else nullcontext():
        program = export(model, (images(2),), dynamic_shapes=({0: Dim("batch")},), strict=False)
    ours = [str(node.target) for node in program.graph.nodes if "token_pruning" in str(node.target)]
    assert bool(ours) == (way == "compiled")
    for batch in (1, 3):
        for found, wanted in zip(program.module()(images(batch)), model(images(batch)), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
