"""Every family of transformers under every method: dense equality, batches, masks of a plain model, training."""

import copy

import pytest
import torch
from host_models import WINDOW_TOWERS
from hugging_face import PATCH, SIDE, TOWERS, images, tower
from reducers import ALL, keep_all, reduced, scattered

import token_pruning
from token_pruning import METHODS, TokenSet, Trace, collect_losses, count_flops, find_host
from token_pruning.components.class_attention import class_attention
from token_pruning.hf import FAMILIES, family_of

GRID = (SIDE // PATCH) ** 2
# Families whose models take another size of image without being asked, and those that have to be asked.
ANY_SIZE = ("DINOv2", "DINOv2 with registers", "DINOv3 ViT", "BEiT", "BEiT shared", "YOLOS")
INTERPOLATES = ("ViT", "DeiT", "CLIP (vision)", "SigLIP (vision)")


def runs(method, name):
    return name != "SigLIP (vision)" or not METHODS[method].needs_class_token


CASES = [(method, name) for method in ALL for name in TOWERS if runs(method, name)]


def run(model, x, **kwargs):
    """Return the map (B, N, C); the places of MAE are shuffled unless it is told not to."""
    if family_of(model).package == "vit_mae":
        kwargs["noise"] = torch.arange(GRID).expand(len(x), -1)
    return model(x, **kwargs).last_hidden_state


def pruned(name, method, **options):
    model = token_pruning.apply(tower(name, **options), reduced(dict(type=method), grid=GRID))
    return scattered(find_host(model))


def test_every_family_has_a_model_here():
    assert {family.title for family in FAMILIES if not family.windowed} <= set(TOWERS)
    assert {family.title for family in FAMILIES if family.windowed} == set(WINDOW_TOWERS)


@pytest.mark.parametrize("method, name", CASES)
@torch.no_grad()
def test_applied_and_removed(method, name):
    dense, x = tower(name), images()
    wanted, model = run(dense, x), copy.deepcopy(dense)
    token_pruning.apply(model, keep_all(method))
    torch.testing.assert_close(run(model, x), wanted, atol=1e-5, rtol=1e-5)
    token_pruning.apply(model, reduced(dict(type=method), grid=GRID))
    scattered(model)
    together = run(model, x)
    singles = torch.cat([run(model, one[None]) for one in x])
    torch.testing.assert_close(together, singles, atol=1e-5, rtol=1e-4)
    assert together.shape == wanted.shape and not torch.allclose(together, wanted, atol=1e-3)
    again = copy.deepcopy(model)
    assert again.forward.args == (again,) and torch.equal(run(again, x), together)
    token_pruning.remove(model)
    assert torch.equal(run(model, x), wanted) and vars(model).keys() == vars(dense).keys()
    assert model.state_dict().keys() == dense.state_dict().keys()
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", [name for name in TOWERS if not name.startswith("YOLOS")])
@torch.no_grad()
def test_selected_tokens_are_computed_as_by_a_plain_model_with_masked_keys(name):
    """Positions, biases and rotations of a subset are those of its places: the library's own layers say so."""
    model, plain, x = pruned(name, "Random"), tower(name), images()
    with Trace() as trace:
        found = run(model, x)
    prefix = trace.passes[0].prefix
    layers = family_of(plain).layers_of(plain)
    for i, layer in enumerate(layers):
        keep = trace.passes[0].used[i]
        assert keep[:, :prefix].all() and (i == 0 or keep.float().mean() < 1)
        hide = torch.zeros(keep.shape).masked_fill(~keep, -1e9)[:, None, None]

        def before(layer, args, kwargs, hide=hide):
            mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
            return args[:1], {**kwargs, "attention_mask": hide if mask is None else mask + hide}

        layer.register_forward_pre_hook(before, with_kwargs=True)
        layer.register_forward_hook(lambda layer, args, out, keep=keep: torch.where(keep[..., None], out, args[0]))
    torch.testing.assert_close(found, run(plain, x), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["ViT", "DINOv2 with registers", "CLIP (vision)", "BEiT"])
@torch.no_grad()
def test_scores_are_the_class_token_s_attention_as_the_model_computes_it(name):
    model, x = tower(name), images()
    model.set_attn_implementation("eager")
    out = model(x, output_attentions=True, output_hidden_states=True)
    layer, options = family_of(model).layers_of(model)[2], {}
    if name == "BEiT":
        options = dict(resolution=(SIDE, SIDE))
    block = family_of(model).block(layer, **options)
    tokens = TokenSet.full(out.hidden_states[2], (6, 6), out.hidden_states[2].shape[1] - GRID)
    qkv = block.qkv(block.norm1(tokens.x))._replace(bias=block.bias)
    wanted = out.attentions[2][:, :, 0].transpose(1, 2)
    torch.testing.assert_close(tokens.by_image(class_attention(tokens, qkv)), wanted, atol=1e-6, rtol=1e-5)
    # Of a subset, with numbers of tokens that differ: the same logits, normalized over what is there.
    keep = torch.rand(len(tokens.x)) < 0.6
    keep.view(3, -1)[:, 0] = True
    subset = tokens.select(keep)
    part = type(qkv)(*(t[keep] for t in qkv[:3]), qkv.bias)
    wanted = wanted * keep.view(3, -1, 1)
    wanted = (wanted / wanted.sum(1, keepdim=True)).flatten(0, 1)[keep]
    torch.testing.assert_close(class_attention(subset, part), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("method", [None, "SViT", "ToMe"])
@torch.no_grad()
def test_capacity_is_an_execution_like_any_other(name, method):
    if method == "SViT" and name.endswith("masked"):
        pytest.skip("masked attention needs the number of tokens of each image")
    model = tower(name)
    token_pruning.apply(model, method and reduced(dict(type=method), grid=GRID))
    host, x = scattered(find_host(model)), images()
    exact = run(model, x)
    host.execution = "capacity"
    torch.testing.assert_close(run(model, x), exact, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(run(model, x[:1]), exact[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("name", ["ViT", "DINOv2", "DINOv3 ViT", "BEiT", "YOLOS"])
def test_a_training_step_reaches_every_parameter(method, name):
    model = pruned(name, method).train()
    with collect_losses() as reported:
        loss = run(model, images()).square().mean() + sum(v for k, v in reported.items() if "loss" in k)
    loss.backward()
    plain = tower(name).train()
    run(plain, images()).square().mean().backward()
    unused = {key for key, p in plain.named_parameters() if p.grad is None}
    assert {key for key, p in model.named_parameters() if p.grad is None} == unused
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [*ANY_SIZE, *INTERPOLATES])
@torch.no_grad()
def test_images_of_another_size(name):
    options = dict(interpolate_pos_encoding=True) if name in INTERPOLATES else {}
    dense, x = tower(name), images(2, 40, 64)
    wanted = run(dense, x, **options)
    token_pruning.apply(dense, None)
    torch.testing.assert_close(run(dense, x, **options), wanted, atol=1e-5, rtol=1e-5)
    model = pruned(name, "ToMe")
    with Trace() as trace:
        assert run(model, x, **options).shape == wanted.shape
    assert trace.passes[0].grid == (5, 8)


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_tools_find_the_host_and_count_what_is_computed(name):
    dense, model, x = tower(name), pruned(name, "ToMe"), images(1)
    host = find_host(model)
    assert host is model and len(host.blocks) == 4 and host.embed_dim == 24 and host.patch_embed.patch_size == (8, 8)
    with count_flops() as before:
        run(dense, x)
    token_pruning.apply(dense, None)
    with count_flops() as same:
        run(dense, x)
    with count_flops() as after, Trace() as trace:
        run(model, x)
    assert same.total == before.total and after.total < 0.9 * before.total
    assert trace.passes[0].masks().shape == (1, 4, 6, 6) and trace.passes[0].keep_ratio()[0, -1] < 1
