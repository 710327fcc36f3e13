"""Every method on timm's vision transformers, applied and removed."""

import copy
import io

import pytest
import timm
import torch
from reducers import ALL, VARIANTS, keep_all, reduced, scattered
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

import token_pruning
from token_pruning import METHODS, ToMe, Trace, collect_losses

TINY = dict(img_size=48, patch_size=8, embed_dim=24, depth=4, num_heads=3, num_classes=5)
# How the families of timm differ.
MODELS = dict(
    deit=dict(),
    distilled=dict(kind=VisionTransformerDistilled),
    dinov2=dict(reg_tokens=4, init_values=0.5),
    deit3=dict(no_embed_class=True, init_values=0.5),
    mae=dict(global_pool="avg", fc_norm=True),
    qk_norm=dict(qk_norm=True),
    eva02=dict(
        kind=Eva,
        mlp_ratio=8 / 3,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
    ),
    eva_fused=dict(
        kind=Eva,
        swiglu_mlp=True,
        use_rot_pos_emb=True,
        init_values=0.5,
        num_reg_tokens=2,
        num_heads=2,
        embed_dim=16,
        scale_attn_inner=True,
        no_embed_class=True,
    ),
    dinov3=dict(
        kind=Eva,
        rope_type="dinov3",
        use_rot_pos_emb=True,
        rope_rotate_half=True,
        attn_type="rope",
        init_values=0.5,
        num_reg_tokens=4,
        num_heads=2,
        embed_dim=16,
        use_abs_pos_emb=False,
    ),
    gap=dict(class_token=False, global_pool="avg"),
    clip=dict(pre_norm=True),
)


def model(name="deit", **kwargs):
    torch.manual_seed(0)
    options = {**TINY, **MODELS[name], **kwargs}
    found = scattered(options.pop("kind", VisionTransformer)(**options)).eval()
    torch.nn.init.normal_(found.head.weight)
    return found


def images(batch=3, height=48, width=48):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


CASES = [(name, host) for name in ALL for host in MODELS if not (host == "gap" and METHODS[name].needs_class_token)]


@pytest.mark.parametrize("name, host", CASES)
@torch.no_grad()
def test_applied_and_removed(name, host):
    dense = model(host)
    x, pruned = images(), copy.deepcopy(dense)
    wanted = dense(x)
    token_pruning.apply(pruned, keep_all(name))
    torch.testing.assert_close(pruned(x), wanted, atol=1e-5, rtol=1e-5)
    token_pruning.apply(pruned, reduced(dict(type=name), grid=36))
    scattered(pruned.reducer)
    together = pruned(x)
    torch.testing.assert_close(together, torch.cat([pruned(one[None]) for one in x]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together, wanted, atol=1e-3)
    again = copy.deepcopy(pruned)
    assert again.forward_features.args == (again,)
    assert torch.equal(again(x), together)
    token_pruning.remove(pruned)
    assert torch.equal(pruned(x), wanted) and vars(pruned).keys() == vars(dense).keys()
    assert pruned.state_dict().keys() == dense.state_dict().keys()


@pytest.mark.parametrize("name", ALL)
def test_parameters_train_and_save_with_the_model(name):
    pruned = token_pruning.apply(model(), reduced(dict(type=name), grid=36)).train()
    with collect_losses() as reported:
        loss = pruned(images()).square().mean() + sum(v for k, v in reported.items() if "loss" in k)
    loss.backward()
    assert all(p.grad is not None for p in pruned.parameters())
    own = {k for k in pruned.state_dict() if k.startswith("reducer.")}
    assert own == {f"reducer.{k}" for k in pruned.reducer.state_dict()}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_a_batch_of_no_images(name, training):
    for settings in (dict(), dict(execution="capacity"), dict(output="kept")):
        pruned = token_pruning.apply(model(), reduced(dict(type=name), grid=36), **settings).train(training)
        with collect_losses() as reported, Trace() as trace:
            out = pruned(images(0))
        assert out.shape == (0, 5) and not reported and trace.passes[0].masks().shape == (0, 4, 6, 6)
    out.sum().backward()  # every parameter has a gradient, which distributed training waits for
    assert all(p.grad is not None and not p.grad.any() for p in pruned.parameters())


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_a_whole_model_can_be_saved(name):
    pruned, file = token_pruning.apply(model(), reduced(dict(type=name), grid=36)), io.BytesIO()
    torch.save(pruned, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    wanted = pruned(images())
    pruned.head.weight.zero_()
    assert torch.equal(again(images()), wanted)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_the_reducer_gets_the_precision_of_the_model(name):
    pruned = token_pruning.apply(model().bfloat16(), reduced(dict(type=name), grid=36))
    assert pruned(images().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_any_size_of_image(name):
    pruned = token_pruning.apply(model(dynamic_img_size=True), reduced(dict(type=name), grid=24))
    assert pruned(images(2, 32, 72)).shape == (2, 5)


@pytest.mark.parametrize("reducer", [v for v in VARIANTS if METHODS[v.values[0]["type"]].fixed_shapes])
@torch.no_grad()
def test_compiles_to_one_graph_for_every_batch(reducer):
    torch._dynamo.reset()
    pruned = token_pruning.apply(model(), reduced(reducer, grid=36), execution="capacity")
    if getattr(pruned.reducer, "capacity_scale", None):
        pruned.reducer.capacity_scale = 10
    scattered(pruned.reducer)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(pruned, backend=backend, fullgraph=True, dynamic=False)
    for seed in range(3):
        x = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(compiled(x), pruned(x), atol=1e-5, rtol=1e-4)
    assert len(graphs) == 1


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_small_patch16_224",
    ],
)
@torch.no_grad()
def test_published_models(name):
    size = 224 - 224 % int(name.split("patch")[1][:2])
    pruned = token_pruning.apply(timm.create_model(name, img_size=size, num_classes=3).eval(), dict(type="ToMe", r=13))
    assert pruned(images(1, size, size)).shape[0] == 1


def test_models_that_the_core_cannot_run_are_one_sentence():
    for name in ("swin_tiny_patch4_window7_224", "hiera_tiny_224"):
        with torch.device("meta"):
            windowed = timm.create_model(name)
        with pytest.raises(TypeError, match=r"attends in windows of its map \(timm.models.\w+\).* CubistMerge"):
            token_pruning.apply(windowed, dict(type="ToMe"))
    with torch.device("meta"), pytest.raises(TypeError, match="Beit is not run by timm's VisionTransformer.forward"):
        token_pruning.apply(timm.create_model("beit_base_patch16_224"), dict(type="ToMe"))
    with pytest.raises(TypeError, match="block 0 of VisionTransformer is a ParallelThingsBlock"):
        token_pruning.apply(timm.create_model("vit_small_patch16_18x2_224"), dict(type="ToMe"))
    with pytest.raises(TypeError, match="patch_drop_rate=0"):
        token_pruning.apply(model(patch_drop_rate=0.5), dict(type="ToMe"))
    with pytest.raises(ValueError, match="EViT ranks tokens by the class token's attention and this model has none"):
        token_pruning.apply(model("gap"), dict(type="EViT"))
    free = ", ".join(name for name in ALL if not METHODS[name].needs_class_token)
    with pytest.raises(ValueError, match=rf"choose a timm model .* a method that needs none \({free}\)"):
        token_pruning.apply(model("gap"), dict(type="ATS"))
    registers = timm.create_model("vit_medium_patch16_reg4_gap_256", embed_dim=24, num_heads=3, depth=2)
    with pytest.raises(ValueError, match="PPT ranks tokens by the class token's attention and this model has none"):
        token_pruning.apply(registers, dict(type="PPT", blocks=[1]))
    with pytest.raises(ValueError, match="this ToMe is for 12 blocks of 24 channels and the model has 4 of 24"):
        token_pruning.apply(model(), ToMe(24, 12))
    with pytest.raises(ValueError, match="has no reducer to remove"):
        token_pruning.remove(model())
    with pytest.raises(ValueError, match="r is 37, but a grid of 6 x 6 has 36 tokens"):
        token_pruning.apply(model(), dict(type="ToMe", r=37))(images())
    pruned = token_pruning.apply(model(), dict(type="ToMe", r=2))
    with pytest.raises(ValueError, match="output_fmt is 'CHW'; choose 'NCHW' or 'NLC'"):
        pruned.forward_intermediates(images(), output_fmt="CHW")
    with pytest.raises(ValueError, match="takes no attn_mask"):
        pruned.forward_features(images(), attn_mask=torch.ones(37, 37))


def test_a_compiled_model_is_one_sentence():
    sentence = "torch.compile has compiled this model already: call token_pruning.apply on the model that was given"
    in_place = model()
    in_place.compile(backend="eager")
    for compiled in (torch.compile(model(), backend="eager"), in_place):
        with pytest.raises(TypeError, match=sentence):
            token_pruning.apply(compiled, dict(type="ToMe", r=2))
    partly = model()
    partly.blocks[1] = torch.compile(partly.blocks[1], backend="eager")
    with pytest.raises(TypeError, match=sentence):
        token_pruning.apply(partly, dict(type="ToMe", r=2))


def test_what_is_no_model_is_one_sentence():
    with pytest.raises(TypeError, match="dict is not run by timm's VisionTransformer.forward_features"):
        token_pruning.apply({}, dict(type="ToMe", r=2))
    with pytest.raises(ValueError, match="this dict has no reducer to remove"):
        token_pruning.remove({})


TAPS = [dict(norm=True), dict(return_prefix_tokens=True), dict(output_fmt="NLC"), dict(output_dict=True)]


@pytest.mark.parametrize("name", ["deit", "dinov2", "dinov3", "gap", "clip"])
@pytest.mark.parametrize("options", [*TAPS, dict(intermediates_only=True), dict(stop_early=True)])
@torch.no_grad()
def test_intermediates_are_timms_where_everything_is_kept(name, options):
    if name == "dinov3" and "output_dict" in options:
        pytest.skip("timm's Eva has no output_dict")
    plain, pruned = model(name), token_pruning.apply(model(name), dict(type="ToMe", **METHODS["ToMe"].keep_all))
    wanted, found = (m.forward_intermediates(images(), indices=[0, 2], **options) for m in (plain, pruned))
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_intermediates_of_a_pruned_model_have_a_value_everywhere():
    pruned = token_pruning.apply(model("dinov2"), dict(type="EViT", keep_ratio=0.5, blocks=[0, 1, 2]))
    final, maps = pruned.forward_intermediates(images())
    assert torch.equal(final, pruned.forward_features(images()))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 6, 6)] * 4 and all(m.isfinite().all() for m in maps)
    layers = pruned.get_intermediate_layers(images(), n=[1, 3], reshape=True)
    torch.testing.assert_close(layers[1], maps[3])


@torch.no_grad()
def test_features_only_models_take_a_reducer():
    torch.manual_seed(0)
    options = dict(features_only=True, img_size=48, embed_dim=24, num_heads=3, depth=4, out_indices=[1, 3])
    net = timm.create_model("deit_small_patch16_224", **options).eval()
    wanted = net(images())
    token_pruning.apply(net.model, dict(type="ToMe", r=0))
    torch.testing.assert_close(net(images()), wanted, atol=1e-5, rtol=1e-4)
    token_pruning.apply(net.model, dict(type="ToMe", r=2))
    assert [m.shape for m in net(images())] == [m.shape for m in wanted]
