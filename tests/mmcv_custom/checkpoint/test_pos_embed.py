"""Position tables are resampled to the grid of the model. Shapes: tables (1, class rows + h * w, C)."""

import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict, weights_to_cpu
from torch import nn

from mmcv_custom.checkpoint.load import load_into
from mmcv_custom.checkpoint.pos_embed import fit_pos_embed, resize_pos_embed
from token_pruning import PlainViT


def test_resize_pos_embed_keeps_class_rows_and_follows_bicubic():
    torch.manual_seed(0)
    table = torch.randn(1, 1 + 14 * 14, 8)
    out = resize_pos_embed(table, (20, 12), prefix=1)
    assert out.shape == (1, 241, 8) and torch.equal(out[:, :1], table[:, :1])
    grid = table[:, 1:].reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(grid, (20, 12), mode="bicubic", align_corners=False)
    torch.testing.assert_close(out[:, 1:], wanted.flatten(2).transpose(1, 2))
    assert resize_pos_embed(table, (14, 14)) is table
    with pytest.raises(ValueError, match="not a square grid"):
        resize_pos_embed(table, (7, 7), prefix=0)


def test_fit_pos_embed_drops_and_keeps_class_rows():
    torch.manual_seed(0)
    model = torch.randn(1, 1 + 49, 4)
    distilled = torch.randn(1, 2 + 49, 4)
    torch.testing.assert_close(fit_pos_embed(distilled, model), distilled[:, [0, *range(2, 51)]])
    bare = torch.randn(1, 49, 4)
    fitted = fit_pos_embed(bare, model)
    assert torch.equal(fitted[:, 0], model[:, 0]) and torch.equal(fitted[:, 1:], bare)
    assert fit_pos_embed(torch.randn(1, 50, 8), model) is None


SIZES = dict(patch_size=8, embed_dim=8, depth=2, num_heads=2)


def a_vit(img_size):
    torch.manual_seed(sum(img_size))
    return PlainViT(img_size=img_size, **SIZES).eval()


def resampled(table, old, new):
    """Resample a table as defined: bicubic over the grid, class row unchanged."""
    grid = table[:, 1:].reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, new, mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def saved(model, path, how):
    if how == "mmengine":  # as a Runner does
        torch.save(dict(state_dict=weights_to_cpu(get_state_dict(model))), path)
    else:
        torch.save(model.state_dict() if how == "torch" else dict(model.state_dict()), path)


# Grids 4 x 6 and 6 x 4 have the same number of positions; 2 x 8, and 6 x 8 with a class row, have that of a square.
@pytest.mark.parametrize("old", [(32, 48), (16, 64), (48, 64), (32, 32)])
@pytest.mark.parametrize("new", [(32, 48), (48, 32), (16, 64), (32, 32)])
@pytest.mark.parametrize("how", ["torch", "mmengine", "bare"])
def test_a_table_is_resampled_to_any_grid(tmp_path, old, new, how):
    """A file without metadata does not have its grid, so that must be a square or the model's own."""
    if how == "bare" and old not in ((32, 32), new) or how == "bare" and old == (16, 64):
        return
    source, model = nn.ModuleDict(dict(backbone=a_vit(old))), nn.ModuleDict(dict(backbone=a_vit(new)))
    saved(source, tmp_path / "vit.pth", how)
    report = load_into(model, tmp_path / "vit.pth")
    found, wanted = model.backbone.pos_embed.data, source.backbone.pos_embed.data
    if old != new:
        wanted = resampled(wanted, [side // 8 for side in old], [side // 8 for side in new])
    torch.testing.assert_close(found, wanted)
    assert bool(report.resized) == (old != new)


@pytest.mark.parametrize("img_size", [(32, 48), (16, 64), 32])
def test_images_of_the_tables_size_use_it_unchanged(img_size):
    vit = PlainViT(img_size=img_size, **SIZES)
    grid = (img_size // 8,) * 2 if isinstance(img_size, int) else tuple(side // 8 for side in img_size)
    assert torch.equal(vit.positions(grid), vit.pos_embed[:, 1:])
    assert vit.start(torch.randn(1, 3, 40, 24)).finish().shape == (1, 15, 8)


@pytest.mark.parametrize("img_size", [4, (32, 4), (32,), (8, 8, 8)])
def test_a_size_without_a_patch_is_one_sentence(img_size):
    with pytest.raises(ValueError, match="img_size is .* give a side in pixels, or .*, each at least a patch of 8"):
        PlainViT(img_size=img_size, **SIZES)
