"""ViT-Adapter and ViT baseline: any size, dense and pruned from one checkpoint, errors."""

import pytest
import torch
from reducers import ALL, keep_all, reduced, scattered

from mmcv_custom.checkpoint.key_maps import to_published_selective
from mmcv_custom.checkpoint.load import load_into
from mmdet_custom import ViTAdapter, ViTBaseline
from token_pruning import Trace

SMALL = dict(
    img_size=64,
    embed_dim=48,
    depth=4,
    num_heads=3,
    interaction_indexes=[[0, 1], [2, 3]],
    conv_inplane=8,
    deform_num_heads=3,
)
PRUNED = dict(type="SViT", blocks=[1, 2, 3], keep_ratio=0.5)


def an_adapter(reducer=None, **kwargs):
    torch.manual_seed(0)
    model = ViTAdapter(**{**SMALL, **kwargs}, reducer=reducer).eval()
    for interaction in model.interactions:  # a freshly initialised injector is the identity and would test nothing
        if interaction.injector is not None:
            torch.nn.init.normal_(interaction.injector.gamma)
    for selector in model.reducer.selectors if reducer and reducer["type"] == "SViT" else ():
        torch.nn.init.normal_(selector.mlp.fc2.weight, std=2.0)
    return model


def image(batch=1, height=64, width=96):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(64, 64), (70, 101), (33, 160), (7, 5), (1, 1)])
@pytest.mark.parametrize("name", [None, *ALL])
@torch.no_grad()
def test_any_size(size, name):
    maps = an_adapter(reduced(dict(type=name), grid=4) if name else None, class_token=True)(image(2, *size))
    assert [m.shape for m in maps] == [(2, 48, -(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)]
    assert all(m.isfinite().all() for m in maps)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


@torch.no_grad()
def test_contiguous_maps_have_the_same_values():
    model = an_adapter()
    maps = model(image())
    model.channels_last = False
    for contiguous, wanted in zip(model(image()), maps, strict=True):
        assert contiguous.is_contiguous()
        torch.testing.assert_close(contiguous, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_inside_equals_padding_outside():
    model, x = an_adapter(PRUNED), image(1, 50, 70)
    padded = torch.nn.functional.pad(x, (0, 26, 0, 14))
    for inside, outside in zip(model(x), model(padded), strict=True):
        assert torch.equal(inside, outside[..., : inside.shape[-2], : inside.shape[-1]])


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_batch_equals_singles(name):
    model, x = scattered(an_adapter(reduced(dict(type=name)), class_token=True)), image(3)
    with Trace() as trace:
        together = model(x)
        singles = [model(one[None]) for one in x]
    assert torch.equal(trace.passes[0].masks(), torch.cat([p.masks() for p in trace.passes[1:]]))
    for level, maps in enumerate(together):
        torch.testing.assert_close(maps, torch.cat([s[level] for s in singles]), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_keep_all_equals_dense(name):
    dense, everything = an_adapter(class_token=True), an_adapter(keep_all(name), class_token=True)
    everything.load_state_dict(dense.state_dict(), strict=False)
    for a, b in zip(dense(image()), everything(image()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_keep_none_works():
    nothing = an_adapter(dict(type="SViT", blocks=[0, 1, 2, 3], mode="threshold"))
    for selector in nothing.reducer.selectors:
        selector.mlp.fc2.weight.zero_()
        selector.mlp.fc2.bias.copy_(torch.tensor([-5.0, 5.0]))
    with Trace() as trace:
        maps = nothing(image(2))
    assert not trace.passes[0].masks().any() and all(m.isfinite().all() for m in maps)


@torch.no_grad()
def test_bf16_autocast_on_cpu():
    model = an_adapter(PRUNED)
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(image(2))
    assert all(m.isfinite().all() for m in maps)


def test_mixed_windows_prune_global_blocks_only():
    windows = dict(window_attn=[True, False, True, False], window_size=3)
    model = an_adapter(dict(type="SViT", blocks=[1, 3], keep_ratio=0.5), **windows)
    with torch.no_grad():
        model(image())
    with pytest.raises(ValueError, match="block 0 attends in windows"):
        an_adapter(dict(type="SViT", blocks=[0], keep_ratio=0.5), **windows)


@torch.no_grad()
def test_windowed_blocks_are_reduced_to_smaller_windows():
    windows = dict(window_attn=[True, False, True, False], window_size=3)
    model = an_adapter(dict(type="CubistMerge", r=1, block=0, window_size=3), **windows)
    with Trace() as trace:
        maps = model(image(2))
    grids = {found.grid for found in trace.passes[0].subgrid.values()}
    assert len(grids) == 1 and len(trace.passes[0].subgrid) == 4
    for together, *singles in zip(maps, *(model(one[None]) for one in image(2)), strict=True):
        torch.testing.assert_close(together, torch.cat(singles), atol=1e-4, rtol=1e-4)


def test_checkpointing_gives_the_same_gradients():
    grads = []
    for with_cp in (False, True):
        model = an_adapter(PRUNED, with_cp=with_cp, norm_cfg=dict(type="GN", num_groups=4)).train()
        torch.manual_seed(2)
        sum(m.square().sum() for m in model(image())).backward()
        grads.append({k: p.grad for k, p in model.named_parameters()})
    for name, wanted in grads[0].items():
        torch.testing.assert_close(grads[1][name], wanted, atol=1e-4, rtol=1e-4)


def test_dense_to_pruned_and_back(capsys):
    """State dicts load both ways, with this project's names and the published ones, any number of times."""
    dense, pruned = an_adapter(), an_adapter(PRUNED)
    fresh = {k: v.clone() for k, v in pruned.reducer.state_dict().items()}
    report = load_into(pruned, dense.state_dict())
    assert set(report.missing) == {f"reducer.{k}" for k in fresh} and not report.unexpected
    assert "reducer.selectors" in capsys.readouterr().out
    for key, value in dense.state_dict().items():
        assert torch.equal(pruned.state_dict()[key], value)
    for state in (pruned.state_dict(), to_published_selective(pruned.state_dict())):
        again = an_adapter(PRUNED)
        assert not load_into(again, state).missing
        assert all(
            torch.equal(a, b) for a, b in zip(again.state_dict().values(), pruned.state_dict().values(), strict=True)
        )
        back = an_adapter()
        report = load_into(back, state)
        assert not report.missing and all("reducer" in name for name in report.unexpected)


def test_deit_file_starts_a_backbone(tmp_path):
    """DeiT files have the form {'model': ...}, a class token, a head and a position table of another grid."""
    donor = an_adapter(img_size=96)
    state = {k: v for k, v in donor.state_dict().items() if k.startswith(("blocks", "patch_embed", "pos_embed"))}
    state |= {"cls_token": torch.zeros(1, 1, 48), "norm.weight": torch.ones(48), "head.weight": torch.ones(5, 48)}
    torch.save({"model": state}, tmp_path / "deit.pth")
    model = an_adapter(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "deit.pth")))
    model.init_weights()
    assert torch.equal(model.blocks[2].attn.qkv.weight, donor.blocks[2].attn.qkv.weight)
    assert model.pos_embed.shape == (1, 17, 48) and torch.equal(model.pos_embed[:, 0], donor.pos_embed[:, 0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(interaction_indexes=[[0, 1], [3, 3]]), "must cover the blocks 0 to 3"),
        (dict(window_attn=[True]), "window_attn has 1 entries for 4 blocks"),
        (dict(window_attn=[True] * 4, window_size=[3, None, 3, 3]), "block 1 is windowed but its window_size is None"),
        (dict(patch_size=14), "patch_size is 14"),
        (dict(deform_num_heads=5), "cannot be split over 5 heads"),
        (dict(reducer=dict(type="SViT", keep_ratio=[0.5])), "1 entries for 3 selectors"),
        (dict(reducer=dict(type="SVit")), "unknown reducer type"),
    ],
)
def test_errors_are_one_sentence(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ViTAdapter(**{**SMALL, **kwargs})


@pytest.mark.parametrize("out_indices", [[3], [0, 1, 2, 3]])
@torch.no_grad()
def test_baseline_pyramid(out_indices):
    model = ViTBaseline(out_indices=out_indices, img_size=64, embed_dim=96, depth=4, num_heads=3, reducer=PRUNED).eval()
    assert [m.shape[-2:] for m in model(image(1, 50, 70))] == [(13, 18), (7, 9), (4, 5), (2, 3)]
    with pytest.raises(ValueError, match="give one or four of the blocks"):
        ViTBaseline(out_indices=[1, 0, 2, 3], img_size=64, embed_dim=96, depth=4, num_heads=3)


@torch.no_grad()
def test_without_injectors_the_vit_runs_undisturbed():
    adapter = an_adapter(init_values=None)
    assert not [name for name, _ in adapter.named_parameters() if "injector" in name]
    image = torch.randn(1, 3, 64, 96)
    stack = adapter.start(image)
    stack.run(0, adapter.depth - 1)
    alone, taken = stack.finish(), []
    adapter._outputs = lambda c1, c, x, shapes, run=adapter._outputs: taken.append(x) or run(c1, c, x, shapes)
    adapter(image)
    assert torch.equal(taken[0], alone)
