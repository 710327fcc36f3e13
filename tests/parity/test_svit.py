"""SViT and its ViT-Adapter against the recorded numbers of the published code: masks exactly, values in tolerance."""

import pytest
import torch
from deformable import PATHS, on
from fixture_files import close, of_kind
from timm.models.vision_transformer import Block
from torch import nn

from mmcv_custom.checkpoint.key_maps import from_published, to_published_selective
from mmdet_custom import ViTAdapter, ViTBaseline
from mmdet_custom.backbones.geometry import adapter_geometry
from mmdet_custom.backbones.interaction import ConvFFN, Extractor, Injector
from mmdet_custom.backbones.spatial_prior import SpatialPriorModule
from token_pruning import SViT, TokenSet, Trace, collect_losses, ratio_loss, run_block
from token_pruning.attention import WindowAttention
from token_pruning.components.predictors import Selector
from token_pruning.positions import resize_positions
from token_pruning_ops import MSDeformAttn, ms_deform_attn

BACKBONE = dict(atol=2e-4, rtol=1e-4)


def shapes_of(tensor):
    return [tuple(shape) for shape in tensor.tolist()]


def adapter(record):
    """Return our backbone for a recorded config of the published classes, with the recorded weights."""
    config = dict(record["config"])
    for unread in ("ratio_loss", "pretrained", "version", "visualize", "statistics"):
        config.pop(unread, None)
    if "select_loc" in config:
        blocks = [layer - 1 for layer in config.pop("select_loc")]
        selectors = list(config.pop("select_model_id"))
        inherit = config.pop("inherit_mask", False)
        if inherit:  # the published variant decides at three layers and reuses each mask up to the next
            ends = [*blocks[1:], config["depth"]]
            selectors = [j for j, (a, b) in enumerate(zip(blocks, ends, strict=True)) for _ in range(a, b)]
            blocks = list(range(blocks[0], config["depth"]))
        config["reducer"] = dict(
            type="SViT",
            blocks=blocks,
            selectors=selectors,
            keep_ratio=config.pop("keep_ratio"),
            inherit=inherit,
            ratio_loss="image" if config.pop("ratio_per_sample", False) else "batch",
            mode="threshold",
        )
        config["norm_eps"] = 1e-5
        for unread in ("window_attn", "window_size"):  # the published selective class ignores them
            config.pop(unread, None)
    model = ViTAdapter(**config)
    model.load_state_dict(from_published(record["state_dict"]))
    return model.eval()


def test_there_is_something_to_compare_with():
    kinds = (
        "selective_adapter",
        "selective_adapter_train",
        "dense_adapter",
        "modules",
        "msda_op",
        "msda_module",
        "selector_module",
        "ratio_loss",
        "init_and_geometry",
        "key_rename",
        "vit_baseline",
    )
    assert any(of_kind(kind) for kind in kinds), "no SViT fixture found; PARITY_FIXTURES must name their folder"


@pytest.mark.parametrize("record", of_kind("dense_adapter"))
@torch.no_grad()
def test_dense_backbone(record):
    model = adapter(record)
    for case in record["cases"]:
        for ours, wanted in zip(model(case["image"]), case["outputs"], strict=True):
            close(ours, wanted, **BACKBONE)


@pytest.mark.parametrize("record", of_kind("selective_adapter"))
@torch.no_grad()
def test_selective_backbone(record):
    model = adapter(record)
    for case in record["cases"]:
        with Trace() as trace:
            outputs = model(case["image"])
        masks = trace.passes[0].masks()
        assert torch.equal(masks, case["selectors"])
        for ours, wanted in zip(outputs, case["outputs"], strict=True):
            close(ours, wanted, **BACKBONE)
        decided = sorted(set(model.reducer.selector_of.values()))
        block_of = {selector: block for block, selector in reversed(model.reducer.selector_of.items())}
        for per_image, wanted in ((False, case["ratio_loss_batch"]), (True, case["ratio_loss_per_sample"])):
            terms = [
                ratio_loss(masks[:, block_of[j]].flatten(1).float(), model.reducer.keep_ratio[j], per_image)
                for j in decided
            ]
            assert torch.stack(terms).mean().item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("record", of_kind("evovit_adapter"))
@torch.no_grad()
def test_evo_vit_backbone(record):
    config = dict(record["config"], class_token=True)
    config.pop("pretrained")
    ratios, tradeoff = config.pop("prune_ratio"), config.pop("tradeoff")
    blocks = [i for i, ratio in enumerate(ratios) if ratio != 1]
    config["reducer"] = dict(type="EvoViT", blocks=blocks, keep_ratio=[ratios[i] for i in blocks], tradeoff=tradeoff)
    config["interaction_indexes"] = [(inside[0], inside[-1]) for inside in config["interaction_indexes"]]
    model = ViTAdapter(**config)
    model.load_state_dict(from_published(record["state_dict"]))
    model.eval()
    for case in record["cases"]:
        for ours, wanted in zip(model(case["image"]), case["outputs"], strict=True):
            close(ours, wanted, **BACKBONE)


@pytest.mark.parametrize("training", ["exact", "packed"])
@pytest.mark.parametrize("record", of_kind("selective_adapter_train"))
def test_training_step(record, training):
    """Compare outputs, masks, losses and gradients of a step with the recorded Gumbel noise.

    Packed training gets no gradient through dropped tokens, so its gradients agree from the last pruned block on.
    """
    model = adapter(record).train()
    model.reducer.training_mode = training
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    noise = iter(record["gumbel_noise"])
    model.reducer.noise = lambda *args: next(noise).flatten(0, 1)
    image = record["image"].clone().requires_grad_()
    with Trace() as trace, collect_losses() as reported:
        outputs = model(image)
    masks = trace.passes[0].masks().flatten(2)
    # One recorded mask per decision; reused decisions repeat it.
    selectors = model.reducer.selector_of
    deciding = [block for block in selectors if selectors.get(block - 1) != selectors[block]]
    assert torch.equal(masks[:, deciding], record["hard_effective"])
    assert torch.equal(masks[:, list(selectors)], record["hard_effective"][:, list(selectors.values())])
    for ours, wanted in zip(outputs, record["outputs"], strict=True):
        close(ours, wanted, **BACKBONE)
    assert reported["loss_ratio"].item() / 4 == pytest.approx(record["ratio_loss"], abs=1e-6)
    weighted = sum((o * w).sum() for o, w in zip(outputs, record["loss_weights"], strict=True))
    loss = 0.01 * weighted + reported["loss_ratio"]
    assert loss.item() == pytest.approx(record["loss"], abs=1e-3)
    loss.backward()
    parameters = dict(model.named_parameters())
    gradients = from_published(record["grads"])
    behind = (f"blocks.{max(selectors)}.", "up.", "norm1.", "norm2.", "norm3.", "norm4.")
    compared = [name for name in gradients if training == "exact" or name.startswith(behind)]
    assert compared
    for name in compared:
        wanted = gradients[name]
        close(parameters[name].grad, wanted, atol=1e-4 * wanted.abs().max().item() + 1e-7, rtol=1e-3)
    if training == "packed":
        return
    close(image.grad, record["grad_image"], atol=1e-4 * record["grad_image"].abs().max().item(), rtol=1e-3)


@pytest.mark.parametrize("record", of_kind("vit_baseline"))
@torch.no_grad()
def test_vit_baseline(record):
    model = ViTBaseline(**record["config"]).eval()
    model.load_state_dict(from_published(record["state_dict"]))
    for case in record["cases"]:
        for ours, wanted in zip(model(case["image"]), case["outputs"], strict=True):
            close(ours, wanted, **BACKBONE)


def block_of(config):
    windowed = config.get("windowed")
    block = Block(
        config["dim"],
        config["num_heads"],
        config["mlp_ratio"],
        qkv_bias=True,
        init_values=1.0 if config.get("layer_scale") else None,
        norm_layer=lambda dim, **kwargs: nn.LayerNorm(dim, eps=config["norm_eps"]),
        **(dict(attn_layer=WindowAttention) if windowed else {}),
    )
    if windowed:
        block.attn.window_size = config["window_size"]
    return block.eval()


def load_block(item):
    """Load a block whose recorded names lack a block number: one is added to convert them to native names."""
    block = block_of(item["config"])
    state = from_published({f"blocks.0.{name}": value for name, value in item["state_dict"].items()})
    block.load_state_dict({name.removeprefix("blocks.0."): value for name, value in state.items()})
    return block


def check_dense_block(item):
    tokens = TokenSet.full(item["x"], (item["H"], item["W"]))
    close(run_block(load_block(item), tokens).restore(), item["output"])


def check_selective_block(item):
    block, keep = load_block(item), item["keep_mask"]
    tokens = TokenSet.full(item["x"], (1, item["x"].shape[1]))
    close(run_block(block, tokens).restore(), item["output"])
    close(run_block(block, tokens, keep.flatten()).restore(), item["output_with_key_mask"])
    close(run_block(block, tokens.select(keep.flatten())).restore(), item["blended"])


def check_selector(item):
    selector = Selector(item["config"]["dim"], item["config"]["norm_eps"])
    selector.load_state_dict(item["state_dict"])
    logp = selector(item["x"])
    close(logp, item["log_softmax"])
    assert torch.equal(logp[..., 0] > logp[..., 1], item["mask"])


def geometry_of(item):
    shapes = shapes_of(item["spatial_shapes"])
    grid = shapes[0] if len(shapes) == 1 else shapes[1]
    geometry = adapter_geometry(grid, torch.device("cpu"))
    return geometry, shapes


def check_injector(item):
    config = item["config"]
    module = Injector(config["dim"], config["num_heads"], config["n_points"], 1.0)
    module.load_state_dict(item["state_dict"])
    geometry, shapes = geometry_of(item)
    assert geometry.injector_shapes == shapes
    close(module(item["query"], item["feat"], geometry), item["output"])


def check_extractor(item):
    config = item["config"]
    module = Extractor(config["dim"], config["num_heads"], config["n_points"], 1.0, cffn_ratio=config["cffn_ratio"])
    module.load_state_dict(item["state_dict"])
    geometry, shapes = geometry_of(item)
    assert geometry.extractor_shapes == shapes
    close(module(item["query"], item["feat"], geometry), item["output"])


def check_spm(item):
    module = SpatialPriorModule(item["config"]["inplanes"], item["config"]["embed_dim"], dict(type="BN")).eval()
    module.load_state_dict(item["state_dict"])
    for ours, wanted in zip(module(item["image"]), item["outputs"], strict=True):
        close(ours, wanted)


def check_conv_ffn(item):
    module = ConvFFN(item["config"]["in_features"], item["config"]["hidden_features"])
    module.load_state_dict(item["state_dict"])
    rows, cols = item["H"], item["W"]
    close(module(item["x"], [(rows * 2, cols * 2), (rows, cols), (rows // 2, cols // 2)]), item["output"])


def check_pos_embed_resize(item):
    for size, wanted in zip(item["sizes"], item["outputs"], strict=True):
        close(resize_positions(item["pos_embed"][:, 1:], (14, 14), tuple(size)), wanted)


def check_left_align(item):
    """Packing keeps the kept tokens of each image in order, as the published left alignment with padding does."""
    x, mask = item["x"], item["mask"]
    packed = TokenSet.full(x, (1, x.shape[1])).select(mask.flatten())
    for part, aligned, filled in zip(packed.counts.split(packed.x), item["aligned"], item["aligned_mask"], strict=True):
        assert torch.equal(part, aligned[filled])


CHECKS = {
    "dense_block": check_dense_block,
    "dense_block_windowed": check_dense_block,
    "selective_block": check_selective_block,
    "selector": check_selector,
    "injector": check_injector,
    "extractor": check_extractor,
    "spm": check_spm,
    "conv_ffn": check_conv_ffn,
    "pos_embed_resize": check_pos_embed_resize,
    "left_align": check_left_align,
}


@pytest.mark.parametrize("record", of_kind("modules"))
@torch.no_grad()
def test_modules(record):
    for item in record["items"]:
        CHECKS[item["name"]](item)


@pytest.mark.parametrize("record", of_kind("selector_module"))
def test_selector_with_and_without_class_token(record):
    for case in record["cases"]:
        dim, positions = case["x"].shape[2], case["x"].shape[1]
        # Version 1 does not score token 0 and always keeps it.
        reducer = SViT(
            dim,
            1,
            blocks=[0],
            keep_ratio=0.5,
            tau=case["tau"],
            mode="threshold",
            class_tokens="keep" if case["version"] else "score",
        )
        reducer.selectors[0].load_state_dict(case["state_dict"])
        tokens = TokenSet.full(case["x"], (1, positions - 1), prefix=1)
        scored = case["x"][:, 1:] if case["version"] else case["x"]
        close(reducer.selectors[0](scored), case["log_softmax"])
        decision = reducer.eval().before_block(0, tokens, reducer.start(tokens))
        assert torch.equal(decision.keep.view(2, -1), case["inference_mask"])
        reducer.noise = lambda *args, case=case: case["gumbel_noise"].flatten(0, 1)
        reducer.train()
        state = reducer.start(tokens)
        decision = reducer.before_block(0, tokens, state)
        assert torch.equal(decision.keep.view(2, -1), case["gumbel_mask"])
        close(state.kept[0][2], case["gumbel_diff"].squeeze(2))
        soft = ((case["log_softmax"] + case["gumbel_noise"]) / case["tau"]).softmax(dim=-1)
        close(soft, case["gumbel_soft"])
        # Straight through: the gate's gradient is the soft mask's.
        x = case["log_softmax"].clone().requires_grad_()
        gate = reducer._gumbel_gate(x.flatten(0, 1), tuple([scored.shape[1]] * 2))
        (ours,) = torch.autograd.grad(gate.sum(), x)
        (wanted,) = torch.autograd.grad(((x + case["gumbel_noise"]) / case["tau"]).softmax(-1)[..., 0].sum(), x)
        close(ours, wanted)


@pytest.mark.parametrize("record", of_kind("ratio_loss"))
def test_ratio_loss(record):
    for case in record["cases"]:
        gate = case["selector"].squeeze(2)
        for per_image, name in ((False, "batch_loss"), (True, "per_sample_loss")):
            assert float(ratio_loss(gate, case["keep_ratio"], per_image)) == pytest.approx(float(case[name]), abs=1e-7)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("record", of_kind("msda_op"))
def test_deformable_op(record, path):
    for case in record["cases"]:
        names = ("value", "sampling_locations", "attention_weights")
        with on(path) as device:
            tensors = [case[name].to(device, copy=True).requires_grad_() for name in names]
            out = ms_deform_attn(tensors[0], shapes_of(case["spatial_shapes"]), *tensors[1:])
            close(out.cpu(), case["output"])
            out.backward(case["grad_output"].to(device))
        for name, tensor in zip(names, tensors, strict=True):
            close(tensor.grad.cpu(), case[f"grad_{name}"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("record", of_kind("msda_module"))
def test_deformable_module(record, path):
    for case in record["cases"]:
        module = MSDeformAttn(**case["config"])
        module.load_state_dict(case["state_dict"])
        names = ("query", "reference_points", "input_flatten")
        shapes = shapes_of(case["spatial_shapes"])
        with on(path) as device:
            module.to(device)
            query, points, feat = (case[name].to(device, copy=True).requires_grad_() for name in names)
            out = module(query, points, feat, shapes)
            close(out.cpu(), case["output"])
            out.backward(case["grad_output"].to(device))
            padded = module(query, points, feat, shapes, case["padding_mask"].to(device))
            boxed = module(query, case["reference_boxes"].to(device), feat, shapes)
        for name, tensor in zip(names, (query, points, feat), strict=True):
            close(tensor.grad.cpu(), case[f"grad_{name}"], atol=1e-4)
        for name, parameter in module.named_parameters():
            close(parameter.grad.cpu(), case["grad_params"][name], atol=1e-4)
        close(padded.cpu(), case["output_with_padding_mask"])
        close(boxed.cpu(), case["output_with_reference_boxes"])


@pytest.mark.parametrize("record", of_kind("init_and_geometry"))
def test_init_and_geometry(record):
    for name, wanted in record["sampling_offsets_bias"].items():
        heads, levels, points = (int(part[:-1]) for part in name.split("_"))
        close(MSDeformAttn(heads * 8, levels, heads, points).sampling_offsets.bias.detach(), wanted, atol=1e-6)
    height, width = record["image_hw"]
    ours = adapter_geometry((height // 16, width // 16), torch.device("cpu"))
    for points, shapes, wanted in (
        (ours.injector_points, ours.injector_shapes, record["injector_inputs"]),
        (ours.extractor_points, ours.extractor_shapes, record["extractor_inputs"]),
    ):
        close(points, wanted["reference_points"], atol=1e-6)
        assert shapes == shapes_of(wanted["spatial_shapes"])


@pytest.mark.parametrize("record", of_kind("key_rename"))
def test_key_names(record):
    """Published dense names convert to native ones and from there to the published selective ones."""
    old, new = zip(*record["dense_to_selective"], strict=True)
    state = {name: torch.zeros(()) for name in old}
    assert list(to_published_selective(from_published(state))) == list(new)
    selectors = {name: torch.zeros(()) for name in record["selective_only_keys"]}
    native = from_published(selectors)
    assert all(".reducer.selectors." in name for name in native)
    assert list(to_published_selective(native)) == list(selectors)
    assert list(from_published(native)) == list(native)


@pytest.mark.parametrize(
    ("size", "dense", "pruned"),
    [
        (dict(embed_dim=192, num_heads=3), (7_962_032, 386), (8_049_746, 440)),
        (dict(embed_dim=384, num_heads=6), (27_494_672, 386), (27_835_970, 440)),
    ],
    ids=["T", "S"],
)
def test_published_sizes(size, dense, pruned):
    """Compare the numbers of parameters and of state dict tensors with those of the published classes."""
    for reducer, wanted in ((None, dense), (dict(type="SViT"), pruned)):
        model = ViTAdapter(**size, reducer=reducer)
        assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == wanted
