"""The forms in which transformers ships its towers: heads, backbones, pairs, pipelines, saving, checkpointing."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from hugging_face import BACKBONES, FORMS, PAIRS, TOWERS, images, tower, transformers
from reducers import ALL, reduced, scattered
from torch import nn
from torch.distributed.fsdp import fully_shard

import token_pruning
from token_pruning import METHODS, Trace, find_host
from token_pruning.hf import family_of

GRID = 36


def apply(model, method="ToMe"):
    token_pruning.apply(model, method and reduced(dict(type=method), grid=GRID))
    scattered(find_host(model))
    return model


@pytest.mark.parametrize("name", FORMS)
@torch.no_grad()
def test_models_with_a_head(name):
    dense, output = FORMS[name]()
    x, model = images(), copy.deepcopy(dense)
    wanted = dense(x)[output]
    torch.testing.assert_close(apply(model, None)(x)[output], wanted, atol=1e-5, rtol=1e-5)
    with Trace() as trace:
        together = apply(model)(x)[output]
    assert trace.passes[0].keep_ratio()[:, -1].max() < 1
    singles = torch.cat([model(one[None])[output] for one in x])
    torch.testing.assert_close(together, singles, atol=1e-5 * max(wanted.abs().max().item(), 1), rtol=1e-4)
    assert not torch.equal(together, wanted)
    assert model(x, return_dict=False)[0].shape == dense(x, return_dict=False)[0].shape
    assert torch.equal(token_pruning.remove(model)(x)[output], wanted)


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_backbones_give_full_maps_at_every_tap(name):
    dense, x = BACKBONES[name](), images(2, 40, 64)
    wanted = dense(x).feature_maps
    model = copy.deepcopy(dense)
    for found, one in zip(apply(model, None)(x).feature_maps, wanted, strict=True):
        torch.testing.assert_close(found, one, atol=1e-5, rtol=1e-5)
    for method in ALL:
        maps = apply(model, method)(x).feature_maps
        assert [tuple(m.shape) for m in maps] == [(2, 24, 5, 8)] * 3
        assert all(m.isfinite().all() for m in maps) and not torch.allclose(maps[-1], wanted[-1], atol=1e-3)
    assert torch.equal(token_pruning.remove(model)(x).feature_maps[-1], wanted[-1])


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_hidden_states_are_full_maps(name):
    model, x = tower(name), images()
    options = dict(noise=torch.arange(GRID).expand(3, -1)) if family_of(model).package == "vit_mae" else {}
    wanted = model(x, output_hidden_states=True, **options).hidden_states
    found = apply(model, None)(x, output_hidden_states=True, **options).hidden_states
    assert len(found) == len(wanted) == 5
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    apply(model, "Random")
    plain = model(x, **options).last_hidden_state
    with Trace() as trace:
        out = model(x, output_hidden_states=True, **options)
    torch.testing.assert_close(out.last_hidden_state, plain, atol=1e-6, rtol=1e-6)
    assert [h.shape for h in out.hidden_states] == [h.shape for h in wanted]
    # What a block did not compute is in its output as it was in its input (YOLOS adds positions afterwards).
    left, layers = trace.passes[0].prefix, trace.passes[0]
    first = family_of(model).front(model.config)
    back = family_of(model).back(model.config)
    for i in range(1, 4) if name != "YOLOS" else ():
        idle = ~layers.used[i][:, left:]
        patches = [out.hidden_states[j][:, first : h.shape[1] - back] for j, h in ((i, wanted[0]), (i + 1, wanted[0]))]
        assert idle.any() and torch.equal(patches[0][idle], patches[1][idle])


@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_the_tower_of_a_model_of_images_and_words(name):
    model, x, words = PAIRS[name](), images(), torch.tensor([[1, 3, 4, 2]])
    wanted = model(input_ids=words, pixel_values=x).logits_per_image
    torch.testing.assert_close(
        apply(model, None)(input_ids=words, pixel_values=x).logits_per_image, wanted, atol=1e-5, rtol=1e-5
    )
    found = apply(model)(input_ids=words, pixel_values=x)
    assert found.logits_per_image.shape == (3, 1) and not torch.equal(found.logits_per_image, wanted)
    assert find_host(model) is model.vision_model
    assert torch.equal(token_pruning.remove(model)(input_ids=words, pixel_values=x).logits_per_image, wanted)


@torch.no_grad()
def test_a_pipeline():
    model = apply(FORMS["ViTForImageClassification"]()[0])
    processor = transformers.ViTImageProcessor(size=dict(height=48, width=48))
    pipe = transformers.pipeline("image-classification", model=model, image_processor=processor)
    from PIL import Image

    with Trace() as trace:
        found = pipe([Image.new("RGB", (60, 50), color) for color in ("red", "blue")])
    assert [len(one) for one in found] == [5, 5] and len(trace.passes) == 2


@pytest.mark.parametrize("method", ALL)
@torch.no_grad()
def test_files_of_transformers(method, tmp_path):
    dense, _ = FORMS["BeitForSemanticSegmentation"]()
    model = apply(copy.deepcopy(dense), method)
    keys = {key for key in model.state_dict() if ".reducer." not in key}
    assert keys == dense.state_dict().keys()
    assert bool(set(model.state_dict()) - keys) == any(True for _ in find_host(model).reducer.state_dict())
    model.save_pretrained(tmp_path)
    loaded, report = type(dense).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    for key, value in dense.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    x = images(1)
    torch.testing.assert_close(loaded.eval()(x).logits, dense(x).logits, atol=1e-6, rtol=1e-6)
    if METHODS[method].fixed_shapes:  # one of these, to save time: the model with its reducer comes back, too
        token_pruning.apply(loaded, find_host(model).reducer)
        torch.testing.assert_close(loaded(x).logits, model(x).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ALL)
@torch.no_grad()
def test_copies_and_pickles(method):
    model = apply(FORMS["DeiTForImageClassification"]()[0], method)
    wanted, file = model(images()).logits, io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        model.deit.layers[0].mlp.fc2.weight.zero_()  # no copy shares weights, blocks or patches with the model
        host = find_host(again)
        assert host is again.deit and host.blocks[0].layer is again.deit.layers[0]
        assert torch.equal(again(images()).logits, wanted)


@pytest.mark.parametrize("name", ["ViT", "DINOv2", "BEiT", "YOLOS"])
@pytest.mark.parametrize("method", [None, "ToMe", "EViT", "SViT", "DynamicViT"])
def test_checkpointing_of_the_model_is_kept(name, method):
    gradients, saved = [], []
    for checkpointing in (False, True):
        model = apply(tower(name), method)
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train()
        torch.manual_seed(0)
        size = 0

        def pack(tensor):
            nonlocal size
            size += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(images()).last_hidden_state.square().mean()
        torch.manual_seed(1)
        loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        saved.append(size)
    assert saved[1] < 0.6 * saved[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_hooks_on_layers_attention_and_mlp_are_called():
    model, seen = apply(tower("ViT"), "Random"), []
    for name in ("", "attention", "attention.q_proj", "mlp"):
        module = model.layers[2].get_submodule(name)
        module.register_forward_hook(lambda m, x, out, name=name: seen.append((name, type(out).__name__)))
    plain = model(images()).last_hidden_state
    assert seen == [("attention.q_proj", "Tensor"), ("attention", "tuple"), ("mlp", "Tensor"), ("", "Tensor")]
    model.layers[1].register_forward_hook(lambda m, x, out: -out)
    assert not torch.allclose(model(images()).last_hidden_state, plain, atol=1e-3)


@pytest.mark.parametrize("method", [None, *ALL])
def test_hooks_change_nothing_and_see_gradients(method):
    plain, hooked, x, seen = apply(tower("DeiT"), method), apply(tower("DeiT"), method), images(), []
    hooked.layers[1].register_forward_hook(lambda m, i, out: out.register_hook(lambda g: seen.append(g.shape)) and None)
    hooked.layers[3].register_forward_pre_hook(lambda m, i: seen.append(i[0].shape))
    hooked.layers[2].register_full_backward_hook(lambda m, i, o: seen.append(o[0].shape))
    hooked.layers[2].attention.register_full_backward_hook(lambda m, i, o: None)
    outputs = [model(x).last_hidden_state for model in (plain, hooked)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    for out in outputs:
        out.square().mean().backward()
    assert seen == [(3, 38, 24)] * 3
    for one, other in zip(plain.parameters(), hooked.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-3)
    token_pruning.remove(hooked)
    assert not any("forward" in vars(module) for module in hooked.modules())


@pytest.mark.parametrize("method", [None, *ALL])
@torch.no_grad()
def test_a_replica_uses_its_own_parameters(method):
    model = apply(FORMS["Dinov2ForImageClassification"]()[0], method)
    # As DataParallel does it: every module is copied, then children and parameters are exchanged.
    replicas = {m: m._replicate_for_data_parallel() for m in model.modules()}
    for original, replica in replicas.items():
        replica._modules = {key: replicas.get(child) for key, child in original._modules.items()}
        replica._parameters = {k: None if p is None else p * 1.5 for k, p in original._parameters.items()}
    scaled = copy.deepcopy(model)
    for parameter in scaled.parameters():
        parameter.mul_(1.5)
    assert torch.equal(replicas[model](images()).logits, scaled(images()).logits)
    assert not torch.allclose(replicas[model](images()).logits, model(images()).logits)


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("method", [None, "Random", "ToMe", "EViT"])
@pytest.mark.parametrize("before", [True, False], ids=["sharded first", "applied first"])
def test_fully_sharded_layers_equal_whole_ones(one_process, method, before):
    """FSDP2 gathers a layer's parameters in its hooks, on the way forward and back."""
    plain, sharded = apply(tower("DINOv2"), method), tower("DINOv2")
    sharded = sharded if before else apply(sharded, method)
    for layer in sharded.encoder.layer:
        fully_shard(layer, mesh=one_process)
    fully_shard(sharded, mesh=one_process)
    if before:
        apply(sharded, method)
    outputs = [model(images()).last_hidden_state for model in (plain, sharded)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    for out in outputs:
        out.square().mean().backward()
    for (key, whole), part in zip(plain.named_parameters(), sharded.parameters(), strict=True):
        if whole.grad is not None:
            torch.testing.assert_close(part.grad.full_tensor(), whole.grad, atol=1e-5, rtol=1e-3, msg=key)


@torch.no_grad()
def test_stochastic_depth_drops_a_branch_of_a_whole_image():
    for name in ("DINOv2", "BEiT"):
        model = apply(tower(name, drop_path_rate=0.4), "Random").train()
        x, ups = images(32), []
        layer = family_of(model).layers_of(model)[3]
        layer.register_forward_pre_hook(lambda m, i, ups=ups: ups.append(i[0]))
        layer.register_forward_hook(lambda m, i, o, ups=ups: ups.append(o))
        model(x)
        idle = (ups[0] == ups[1]).flatten(1).all(1).float().mean()
        assert 0.02 < idle < 0.4  # both branches: 0.16


def test_transformers_is_not_imported_before_it_is_needed():
    code = "import sys, token_pruning; assert 'timm' in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class LoRA(nn.Module):
    """A linear layer with a low-rank update beside it, as PEFT puts it into a model."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.a, self.b = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.b(self.a(x))


@torch.no_grad()
def test_linear_layers_of_another_library():
    model = tower("DINOv2")
    for layer in model.encoder.layer:
        layer.attention.q_proj, layer.mlp.fc1 = LoRA(layer.attention.q_proj), LoRA(layer.mlp.fc1)
    wanted = model(images()).last_hidden_state
    torch.testing.assert_close(apply(model, None)(images()).last_hidden_state, wanted, atol=1e-5, rtol=1e-5)
    assert apply(model)(images()).last_hidden_state.shape == wanted.shape


@torch.no_grad()
def test_one_layer_by_itself_runs_as_ever():
    model, x = apply(tower("CLIP (vision)")), torch.randn(2, 37, 24)
    wanted = tower("CLIP (vision)").encoder.layers[1](x, None)
    assert torch.equal(model.encoder.layers[1](x, None), wanted)
    assert torch.equal(model.encoder(x).last_hidden_state, tower("CLIP (vision)").encoder(x).last_hidden_state)


@torch.no_grad()
def test_the_implementation_of_attention_plays_no_part():
    model = apply(tower("BEiT"))
    wanted = model(images()).last_hidden_state
    model.set_attn_implementation("eager")
    assert torch.equal(model(images()).last_hidden_state, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_the_reducer_gets_the_precision_of_the_model(dtype):
    for name in ("ViT", "BEiT", "DINOv3 ViT"):
        for method in ("SViT", "EViT", "DynamicViT"):
            model = apply(tower(name).to(dtype), method)
            assert model(images().to(dtype)).last_hidden_state.dtype == dtype


@pytest.mark.parametrize("method", [None, "ToMe", "SViT"])
@torch.no_grad()
def test_a_pruned_model_can_be_compiled(method):
    torch._dynamo.reset()
    model = apply(tower("ViT"), method)
    find_host(model).execution = "capacity"
    wanted = model(images()).last_hidden_state
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    for _ in range(2):
        torch.testing.assert_close(compiled(images()).last_hidden_state, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(images()).last_hidden_state, wanted, atol=1e-6, rtol=1e-6)
