"""SAM, SAM 3 and ViTDet: CubistMerge in windows, keep-all equal to the plain model, and what is refused."""

import copy

import pytest
import torch
from host_models import DEPTH, PATCH, WINDOW, WINDOW_TOWERS
from hugging_face import images, transformers
from reducers import ALL

import token_pruning
from token_pruning import METHODS, find_host
from token_pruning.components.grid_merging import merge_grid

ALIGNED, RAGGED = 8, 7  # sides of the grid in patches: whole windows, and windows that the edge cuts off
NAMES = list(WINDOW_TOWERS)


def build(name, side=RAGGED):
    return WINDOW_TOWERS[name](image_size=side * PATCH)


def inputs(side=RAGGED):
    return images(2, side * PATCH, side * PATCH)


def cubist(**settings):
    return dict(type="CubistMerge", window_size=WINDOW, **settings)


def layers(model):
    """Return the layers of a model, with or without a reducer."""
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == DEPTH)


@pytest.mark.parametrize("side", [ALIGNED, RAGGED])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_keeping_all_is_the_plain_model_and_remove_restores_it(name, side):
    model, x = build(name, side), inputs(side)
    wanted, keys = model(x, output_hidden_states=True), [*model.state_dict()]
    for reducer in (None, cubist(r=0)):
        assert token_pruning.apply(model, reducer) is model
        found = model(x, output_hidden_states=True)
        torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(x).last_hidden_state, wanted.last_hidden_state, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.hidden_states, wanted.hidden_states, rtol=1e-5, atol=1e-5)
        assert [*model.state_dict()] == keys
    token_pruning.remove(model)
    assert find_host(model) is None
    assert torch.equal(model(x).last_hidden_state, wanted.last_hidden_state)


def smaller(name, model, side):
    """Return a copy whose windows have lost a row and a column, so that the library itself runs the smaller grid."""
    small = copy.deepcopy(model)
    for layer in layers(small):
        whole = layer.window_size == 0
        if not whole:
            layer.window_size = WINDOW - 1
        if name == "SAM 3":  # its positions are made for the size of the map
            layer.config.image_size = side * PATCH
            layer.position_ids = layer.precompute_positions(layer.config, layer.window_size)
    return small


@pytest.mark.parametrize("side", [ALIGNED, RAGGED])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ViTDet"])
@torch.no_grad()
def test_the_smaller_grid_is_what_the_library_computes_on_it(name, side):
    model, x = build(name, side), inputs(side)
    first = model(x, output_hidden_states=True).hidden_states[0]
    merged = merge_grid(first.flatten(1, 2), (side, side), (1, 1), window=WINDOW)
    small, grid = merged.x.unflatten(1, merged.grid), merged.grid
    for layer in layers(smaller(name, model, grid[0])):
        small = layer(small)
    place = merged.place[..., None].expand(-1, -1, small.shape[-1])
    wanted = small.flatten(1, 2).gather(1, place).unflatten(1, (side, side))
    token_pruning.apply(model, cubist(r=1, block=0))
    found = model(x, output_hidden_states=True)
    torch.testing.assert_close(found.hidden_states[-1], wanted, rtol=1e-4, atol=1e-4)
    if name != "SAM 3":  # the neck gets the restored map
        torch.testing.assert_close(found.last_hidden_state, find_host(model).neck(wanted), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_convolutions_between_layers_get_the_whole_map():
    """ViTDet's residual blocks: their input has a value at every position, their output goes on in the merged set."""
    model, x, seen = build("ViTDet"), inputs(), []
    layers(model)[1].residual.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    token_pruning.apply(model, cubist(r=1, block=0))
    out = model(x, output_hidden_states=True)
    (given, made), after = seen[0], out.hidden_states[2].flatten(2)
    assert given.shape == (*x.shape[:1], 24, RAGGED, RAGGED)
    first = out.hidden_states[0].flatten(2).mT
    merged = merge_grid(first, (RAGGED, RAGGED), (1, 1), window=WINDOW)
    place = merged.place[:, None].expand(-1, 24, -1)
    tokens = torch.zeros(2, 24, merged.x.shape[1]).scatter_reduce(2, place, made.flatten(2), "mean", include_self=False)
    torch.testing.assert_close(after, tokens.gather(2, place), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_merging_costs_less_and_reaches_every_parameter(name):
    model, x = build(name, ALIGNED), inputs(ALIGNED)
    token_pruning.apply(model, None)
    with token_pruning.count_flops() as dense, torch.no_grad():
        model(x)
    token_pruning.apply(model, cubist(r=2, block=0))
    with token_pruning.count_flops() as merged, torch.no_grad():
        model(x)
    assert merged.total < 0.6 * dense.total
    model.train()(x).last_hidden_state.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layers(model).parameters())


@pytest.mark.parametrize("name", NAMES)
def test_other_methods_are_refused_in_a_sentence_that_names_the_one_for_windows(name):
    model = build(name)
    for method in ALL:
        if method == "CubistMerge":
            continue
        with pytest.raises(ValueError, match=r"attends in windows of its map .* the method for windows is CubistMerge"):
            token_pruning.apply(model, dict(type=method, **METHODS[method].keep_all))
    with pytest.raises(ValueError, match=f"set its window_size={WINDOW}"):
        token_pruning.apply(model, dict(type="CubistMerge"))
    assert find_host(model) is None


@torch.no_grad()
def test_hooks_on_attention_see_the_tokens_that_are_computed():
    model, seen = build("SAM", ALIGNED), []
    layers(model)[1].attn.register_forward_hook(lambda module, args, out: seen.append(args[0].shape))
    token_pruning.apply(model, cubist(r=1, block=0))
    model(inputs(ALIGNED))
    assert seen == [(2, 36, 24)]


@torch.no_grad()
def test_the_encoder_inside_the_whole_segment_anything_model():
    vision = dict(hidden_size=24, num_hidden_layers=DEPTH, num_attention_heads=3, image_size=ALIGNED * PATCH)
    vision.update(patch_size=PATCH, window_size=WINDOW, global_attn_indexes=[1, 3], mlp_dim=48)
    model, x = transformers.SamModel(transformers.SamConfig(vision_config=vision)).eval(), inputs(ALIGNED)
    wanted = model.get_image_embeddings(x)
    assert token_pruning.apply(model, cubist(r=0)).vision_encoder is find_host(model)
    torch.testing.assert_close(model.get_image_embeddings(x), wanted, rtol=1e-5, atol=1e-5)
    token_pruning.apply(model, cubist(r=1))
    assert model.get_image_embeddings(x).shape == wanted.shape
