"""The position table of a plain ViT at other grids than it was trained on."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from token_pruning.positions import resize_positions


def a_table(old, dtype=torch.float32):
    return torch.randn(1, old[0] * old[1], 24, generator=torch.Generator().manual_seed(0)).to(dtype)


def interpolated(table, old, new):
    maps = table.unflatten(1, old).permute(0, 3, 1, 2)
    return F.interpolate(maps, new, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


GRIDS = [((14, 14), (50, 84)), ((24, 24), (7, 5)), ((14, 14), (14, 20)), ((3, 5), (6, 1)), ((1, 1), (2, 3))]


@pytest.mark.parametrize("old, new", GRIDS)
def test_resized_tables_and_gradients_equal_interpolate(old, new):
    table, wanted = a_table(old).requires_grad_(), a_table(old).requires_grad_()
    weight = torch.randn(1, new[0] * new[1], 24, generator=torch.Generator().manual_seed(1))
    out, expected = resize_positions(table, old, new), interpolated(wanted, old, new)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(table.grad, wanted.grad, atol=1e-4, rtol=1e-5)


def test_the_same_grid_is_the_same_tensor():
    table = a_table((4, 6))
    assert resize_positions(table, (4, 6), (4, 6)) is table


def test_autocast_does_not_round_the_table():
    table, old, new = a_table((5, 5)), (5, 5), (8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = resize_positions(table, old, new)
    torch.testing.assert_close(out, interpolated(table, old, new), atol=1e-5, rtol=1e-5)


def test_low_precision_tables_keep_their_type():
    table = a_table((5, 5), torch.bfloat16)
    out = resize_positions(table, (5, 5), (8, 3))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), interpolated(table.float(), (5, 5), (8, 3)), atol=3e-2, rtol=1e-2)


def test_matrices_first_made_in_inference_mode_serve_training():
    with torch.inference_mode():
        resize_positions(a_table((9, 11)), (9, 11), (17, 13))
    table = a_table((9, 11)).requires_grad_()
    resize_positions(table, (9, 11), (17, 13)).sum().backward()
    assert table.grad.isfinite().all()


def test_resizing_is_not_counted():
    with FlopCounterMode(display=False) as counter:
        resize_positions(a_table((5, 5)), (5, 5), (8, 3))
    assert counter.get_total_flops() == 0


def test_on_the_meta_device_only_the_shape_is_known():
    assert resize_positions(a_table((5, 5)).to("meta"), (5, 5), (8, 3)).shape == (1, 24, 24)


@pytest.mark.cuda
def test_on_cuda_it_is_deterministic_and_captured():
    table = a_table((14, 14)).cuda()
    wanted = interpolated(table, (14, 14), (50, 84))
    grads = []
    for _ in range(2):
        leaf = table.clone().requires_grad_()
        resize_positions(leaf, (14, 14), (50, 84)).square().sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)
    with torch.no_grad():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = resize_positions(table, (14, 14), (50, 84))
        graph.replay()
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)
