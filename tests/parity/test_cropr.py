"""Cropr against the recorded numbers of the published code: kept sets exactly.

Shapes: B images, N positions, M tokens, K classes, C channels.
"""

import math

import pytest
import torch
from fixture_files import close, of_kind
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import ConstantLR, CosineAnnealingLR, LinearLR, PolyLR
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import DataSample
from mmseg.registry import MODELS as SEGMENTORS
from mmseg.structures import SegDataSample

import mmpretrain_custom  # noqa: F401 - registers the models
import mmseg_custom  # noqa: F401
from mmcv_custom import load_into
from mmcv_custom.checkpoint.key_maps import to_published_cropr
from mmcv_custom.engine.hooks.curriculum import pruning_strength
from token_pruning import StackForward, Trace, build_reducer, collect_losses

LOGITS, LOSSES = dict(atol=2e-5, rtol=1e-5), dict(atol=5e-6, rtol=1e-5)
CLASSIFIED, SEGMENTED = of_kind("cls"), of_kind("seg")
CRITERIA = {
    "soft": dict(type="CrossEntropyLoss", use_soft=True),
    "smooth0.1": dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    "ce": dict(type="CrossEntropyLoss"),
}


def trained(records):
    return [record for record in records if "train" in record.values[0]]


def test_there_is_something_to_compare_with():
    assert of_kind("seg_steps") and of_kind("cls_schedule"), "no Cropr fixture found, see PARITY_FIXTURES"


def reducer_of(record, classes):
    config = record["cropr_cfg"]
    if not config["use_cropr"]:
        return None
    return dict(
        type="Cropr",
        r=config["pruning_rate"],
        fusion=config.get("llf", True),
        num_classes=classes,
        num_queries=config["num_queries"],
        num_heads=config["num_heads"],
        pre_norm=config["pre_attn_norm"],
        q_proj=config["q_proj"],
        k_proj=config["k_proj"],
        v_proj=config["v_proj"],
        mlp_ratio=config["mlp_ratio"] if config["mlp"] else None,
    )


def classifier(record, loss="ce", state="state_dict"):
    init_default_scope("mmpretrain")
    config = {k: v for k, v in record["vit_kwargs"].items() if k not in ("class_token", "global_pool")}
    pooled = (
        dict(global_pool="token")
        if record["vit_kwargs"]["global_pool"] == "token"
        else dict(global_pool="avg", pool_include_prefix=True)
    )
    backbone = dict(
        type="TimmViT",
        model_name="vit_tiny_patch16_224",
        output="kept",
        **config,
        **pooled,
        reducer=reducer_of(record, config["num_classes"]),
    )
    model = CLASSIFIERS.build(dict(type="PrunedClassifier", backbone=backbone, loss=CRITERIA[loss]))
    return loaded(model, record[state])


def segmentor(record, state="state_dict"):
    init_default_scope("mmseg")
    config, shared = (
        record["eva_kwargs"],
        ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "class_token", "drop_path_rate"),
    )
    model = SEGMENTORS.build(
        ConfigDict(
            type="PrunedEncoderDecoder",
            backbone=dict(
                type="PlainViTBackbone",
                model_name="eva02_base_patch14_224",
                model_args=dict(ref_feat_shape=tuple(config["ref_feat_shape"])),
                reducer=reducer_of(record, config["num_classes"]),
                **{name: config[name] for name in shared},
            ),
            decode_head=dict(
                type="LinearHead",
                in_channels=config["embed_dim"],
                num_classes=config["num_classes"],
                patch_size=config["patch_size"],
                loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
            ),
            test_cfg=dict(mode="whole"),
        )
    )
    return loaded(model, record[state])


def loaded(model, state):
    report = load_into(model, dict(state))
    assert report.missing == report.unexpected == report.mismatched == report.resized == []
    assert report.loaded == len(state)
    return model.eval()


def check_sets(trace, selection):
    used = trace.passes[0].used
    for block, kept in enumerate(selection, start=1):
        assert torch.equal(used[block], torch.zeros_like(used[0]).scatter(1, kept, True)), f"block {block}"
    if len(selection) == len(used) - 2:
        assert used[len(used) - 1].all()


def check_blocks(model, image, record):
    """Check every block's output token by token; the recorded tokens are in the published order."""
    backbone, wanted = model.backbone, record["eval"]
    if hasattr(backbone, "start"):
        stack = backbone.start(backbone.pad(image))
    else:
        x = backbone._pos_embed(backbone.patch_embed(image))
        stack = StackForward(backbone.blocks, backbone.reducer, x, backbone.patch_embed.grid_size, 1)
    order = torch.arange(stack.tokens.positions).expand(len(image), -1)
    selections = dict(enumerate(wanted["selection"]))
    dropped = [selection["pruned"] for selection in selections.values()]
    for block, mean in enumerate(wanted["block_out_mean"]):
        if mean.shape[1] > order.shape[1]:  # the last block, with the restored tokens behind the others
            order = torch.cat([order, *dropped], dim=1)
        stack.run(block, block)
        dense_map = stack.map(with_prefix=True)
        close(dense_map.mean(2).gather(1, order), mean, **LOGITS)
        order = selections[block]["kept"] if block in selections else order
    close(dense_map[0][order[0]], wanted["block_out_last"][0], **LOGITS)


@pytest.mark.parametrize("record", CLASSIFIED)
@torch.no_grad()
def test_classification(record):
    model, image = classifier(record), record["input"]
    with Trace() as trace:
        logits = model(image)
    check_sets(trace, [selection["kept"] for selection in record["eval"]["selection"]])
    close(logits, record["eval"]["logits"], **LOGITS)
    close(torch.cat([model(one[None]) for one in image]), logits, **LOGITS)
    check_blocks(model, image, record)


@pytest.mark.parametrize("record", CLASSIFIED)
@torch.no_grad()
def test_folded_routers_are_the_same(record):
    model, image = classifier(record), record["input"]
    if model.backbone.reducer is not None:
        wanted, parameters = model(image), sum(p.numel() for p in model.parameters())
        model.backbone.reducer.fold()
        assert torch.equal(model(image), wanted) and sum(p.numel() for p in model.parameters()) < parameters
        config = record["vit_kwargs"]
        again = CLASSIFIERS.build(
            dict(
                type="PrunedClassifier",
                backbone=dict(
                    type="TimmViT",
                    model_name="vit_tiny_patch16_224",
                    output="kept",
                    **{k: v for k, v in config.items() if k != "class_token"},
                    pool_include_prefix=config["global_pool"] == "avg",
                    reducer=dict(reducer_of(record, 10), folded=True),
                ),
            )
        ).eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(image), wanted)


def labelled(record, loss):
    if loss == "soft":
        return [DataSample().set_gt_score(score) for score in record["soft_labels"]]
    return [DataSample().set_gt_label(label) for label in record["hard_labels"]]


def in_order(losses, main):
    """Return the main loss, then the auxiliary ones by block."""
    auxiliary = sorted((name for name in losses if name.startswith("loss_aux.")), key=lambda name: int(name[9:]))
    return [losses[main], *(losses[name] for name in auxiliary)]


@pytest.mark.parametrize("record", trained(CLASSIFIED))
@pytest.mark.parametrize("loss", CRITERIA)
def test_classification_losses(record, loss):
    model, wanted = classifier(record, loss).train(), record["train"]
    losses = in_order(model.loss(record["input"], labelled(wanted, loss)), "loss")
    close(torch.stack(losses), wanted["losses"][loss], **LOSSES)
    close(sum(losses), wanted["total"][loss], **LOSSES)


@pytest.mark.parametrize("record", trained(CLASSIFIED))
def test_classification_training(record):
    model, wanted, outputs = classifier(record, "soft").train(), record["train"], []
    with Trace() as trace, collect_losses(lambda output: outputs.append(output.of_image()) or output.logits.sum()):
        main = model.backbone(record["input"])
    check_sets(trace, wanted["kept"])
    for found, logits in zip([main, *outputs], wanted["outputs"], strict=True):
        close(found, logits, **LOGITS)
    losses = in_order(model.loss(record["input"], labelled(wanted, "soft")), "loss")
    check_gradients(model, losses, wanted)


def check_gradients(model, losses, wanted):
    """Check the norms of all gradients, also of main and auxiliary losses separately, and some gradients in full."""
    ours = dict(model.named_parameters())
    parameters = dict(zip(to_published_cropr({k: p.detach() for k, p in ours.items()}), ours.values(), strict=True))
    for kind, loss in (("main_only", losses[0]), ("aux_only", sum(losses[1:])), ("total", sum(losses))):
        norms = wanted.get(f"grad_norms_{kind}")
        if norms is None:  # of a dense model's auxiliary losses
            continue
        assert norms.keys() == parameters.keys()
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            assert (gradient is None) == (norms[name] is None), f"{kind} {name}"
            if gradient is not None:
                assert gradient.norm().item() == pytest.approx(norms[name], rel=2e-3, abs=1e-5), f"{kind} {name}"
            if kind == "total" and name in wanted["grads_total"]:
                close(gradient.view_as(wanted["grads_total"][name]), wanted["grads_total"][name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("record", SEGMENTED)
@torch.no_grad()
def test_segmentation(record):
    model, image, wanted = segmentor(record), record["input"], record["eval"]
    with Trace() as trace:
        masks = model.inference(image, metas(image))
    check_sets(trace, [selection["kept"] for selection in wanted["selection"]])
    close(masks[: wanted["masks_saved_batch"]], wanted["masks"], **LOGITS)
    assert torch.equal(masks.argmax(1), wanted["masks_argmax"].long())
    close(model._forward(image).flatten(2).transpose(1, 2), wanted["patch_logits"], **LOGITS)
    close(torch.cat([model.inference(one[None], metas(one[None])) for one in image]), masks, **LOGITS)
    close(
        model.backbone.rotary_positions((8, 8) if len(record["rope_embed"]) == 64 else (6, 6))[1:], record["rope_embed"]
    )
    check_blocks(model, image, record)


def metas(image, **more):
    size = tuple(image.shape[-2:])
    return [dict(dict(img_shape=size, ori_shape=size), **more)] * len(image)


def with_maps(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None].long())) for label in labels]


@pytest.mark.parametrize("record", trained(SEGMENTED))
def test_segmentation_training(record):
    model, wanted, outputs = segmentor(record).train(), record["train"], []
    reducer, image = model.backbone.reducer, record["input"]
    if reducer is not None:
        epochs, rate = record["cropr_cfg"]["epochs"], record["cropr_cfg"]["pruning_rate"]
        assert [int(rate * pruning_strength(e, epochs)) for e in range(epochs)] == wanted["curriculum"].tolist()
        reducer.anneal(pruning_strength(wanted["epoch_for_curriculum"], epochs))
        grid = model.backbone.table_grid
        left = [grid[0] * grid[1], *reducer.schedule.tokens_left(grid, 1)]
        assert [a - b for a, b in zip(left, left[1:], strict=False)] == wanted["rates"]
    with Trace() as trace, collect_losses(lambda output: outputs.append(output) or output.logits.sum()):
        maps = model.backbone(image)
    check_sets(trace, wanted["kept"])
    step = wanted["masks_first_stride"]
    masks = model.decode_head.to_pixels(model.decode_head(maps), image.shape[2:])
    close(masks[:1, :, ::step, ::step], wanted["masks_first"], **LOGITS)
    for output, logits in zip(outputs, wanted.get("aux_first", []), strict=True):
        close(output.logits[:1].transpose(1, 2).unflatten(2, output.grid), logits, **LOGITS)
    losses = in_order(model.loss(image, with_maps(wanted["labels"])), "decode.loss_ce")
    close(torch.stack(losses), wanted["losses"], **LOSSES)
    close(sum(losses), wanted["total"], **LOSSES)
    check_gradients(model, losses, wanted)


@pytest.mark.parametrize("record", CLASSIFIED + SEGMENTED)
def test_published_names_load_both_ways(record):
    model = (segmentor if record["kind"] == "seg" else classifier)(record)
    back = to_published_cropr(model.state_dict())
    assert back.keys() == record["state_dict"].keys()
    assert all(torch.equal(back[name], value) for name, value in record["state_dict"].items())


@pytest.mark.parametrize("record", of_kind("seg_infer"))
@torch.no_grad()
def test_inference(record):
    """Infer on one window, as published, and on larger images, where the published code fails."""
    model = segmentor(record)
    for case in record["cases"]:
        image, size = case["image"], case["img_shape"]
        padding = [0, image.shape[3] - size[1], 0, image.shape[2] - size[0]]
        direction = dict(flip=True, flip_direction="horizontal") if case["flip"] else {}
        sample = SegDataSample(
            metainfo=dict(
                img_shape=tuple(size),
                ori_shape=tuple(case["ori_shape"]),
                pad_shape=tuple(image.shape[2:]),
                img_padding_size=padding,
                **direction,
            )
        )
        if case["error"]:
            window = (case["window"],) * 2
            model.test_cfg = ConfigDict(mode="slide", crop_size=window, stride=(case["stride"],) * 2)
            (result,) = model.predict(image, [sample])
            left, right = image[..., : window[1]], image[..., -window[1] :]
            both = [model.encode_decode(part, metas(part)) for part in (left, right)]
            overlap = (both[0][..., case["stride"] :] + both[1][..., : case["stride"]]) / 2
            close(result.seg_logits.data[..., case["stride"] : -case["stride"]], overlap[0], **LOGITS)
            assert result.pred_sem_seg.data.shape[1:] == tuple(case["ori_shape"])
            continue
        (result,) = model.predict(image, [sample])
        close(result.seg_logits.data.softmax(0), case["probs"], **LOGITS)
        assert torch.equal(result.pred_sem_seg.data[0], case["argmax"].long())


def schedulers(optimizer, base, final, warm, steps):
    """Return the schedulers of the published classification recipe.

    A linear warm-up of ``warm`` steps whose first repeats the second, then half a cosine to ``final``.
    """
    first = 1 / (warm - 1)
    return [
        ConstantLR(optimizer, factor=first, begin=0, end=2, by_epoch=False),
        LinearLR(optimizer, start_factor=first, begin=1, end=warm, by_epoch=False),
        CosineAnnealingLR(
            optimizer, eta_min_ratio=final / base, begin=warm, end=steps, T_max=steps - warm, by_epoch=False
        ),
    ]


@pytest.mark.parametrize("record", of_kind("cls_schedule"))
def test_schedule_and_groups(record):
    for case in record["cosine"].values():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=case["base"])
        warm, found = math.ceil(case["warmup_epochs"] * case["iters_per_epoch"]), []
        steps = schedulers(optimizer, case["base"], case["final"], warm, len(case["values"]))
        for _ in case["values"]:
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for schedule in steps:
                schedule.step()
        close(torch.tensor(found, dtype=torch.float64), case["values"], atol=1e-9, rtol=1e-5)

    init_default_scope("mmpretrain")
    model = CLASSIFIERS.build(
        dict(
            type="PrunedClassifier",
            backbone=dict(
                type="TimmViT",
                model_name="vit_tiny_patch16_224",
                embed_dim=32,
                depth=record["depth"],
                num_heads=4,
                num_classes=5,
                global_pool="avg",
                reducer=dict(type="Cropr", r=3, num_classes=5),
            ),
        )
    )
    groups = groups_of(model, layer_decay_wrapper(record["layer_decay"], record["weight_decay"]))
    for name, (scale, decay) in record["param_groups"].items():
        if name in groups:  # the recorded network prunes without fusion
            assert groups[name]["lr_scale"] == pytest.approx(scale) and groups[name]["weight_decay"] == decay, name
    assert len(groups.keys() & record["param_groups"].keys()) == len(groups)

    rates = torch.linspace(0, record["drop_path_rate"], record["depth"]).tolist()
    reducer = build_reducer(dict(type="Cropr"), 32, record["depth"])
    steady = [0.0 if i in reducer.no_drop_path_blocks else rate for i, rate in enumerate(rates)]
    assert steady == pytest.approx(record["drop_path_per_block"])


def layer_decay_wrapper(rate, weight_decay, lr=1e-3, **more):
    return dict(
        type="OptimWrapper",
        constructor="LayerDecayOptimWrapperConstructor",
        optimizer=dict(type="AdamW", lr=lr, weight_decay=weight_decay),
        paramwise_cfg=dict(layer_decay_rate=rate),
        **more,
    )


def groups_of(model, wrapper):
    """Map each published name to its parameter group of the optimizer."""
    names = {id(p): name for name, p in model.named_parameters()}
    renamed = dict(zip(names.values(), to_published_cropr({k: torch.zeros(1, 1) for k in names.values()}), strict=True))
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    return {renamed[names[id(p)]]: group for group in groups for p in group["params"]}


def check_steps(model, record, atol):
    found = to_published_cropr(model.state_dict())
    for name, wanted in record["state_after"].items():
        keys = name.endswith("qkv.bias")  # a third of it, of the keys, has a gradient that is rounding and no more
        rows = [slice(0, len(wanted) // 3), slice(2 * len(wanted) // 3, None)] if keys else [slice(None)]
        for part in rows:
            close(found[name][part], wanted[part], atol=atol, rtol=1e-4)


@pytest.mark.parametrize("record", of_kind("cls_steps"))
def test_classification_steps(record):
    model = classifier(record, record["loss"], "state_before").train()
    accumulate, clip = record["accum_steps"], record["max_norm"]
    wrapper = build_optim_wrapper(
        model,
        layer_decay_wrapper(
            record["layer_decay"],
            record["weight_decay"],
            accumulative_counts=accumulate,
            clip_grad=dict(max_norm=clip) if clip else None,
        ),
    )
    steps, totals = len(record["images"]), []
    start = int(steps / accumulate * record["epoch"])
    for i, (images, labels) in enumerate(zip(record["images"], record["labels"], strict=True)):
        for group in wrapper.optimizer.param_groups:
            group["lr"] = float(record["lr_schedule"][start + i // accumulate]) * group["lr_scale"]
        with wrapper.optim_context(model):
            losses = model.loss(images, [DataSample().set_gt_label(label) for label in labels])
        losses = in_order(losses, "loss")
        totals.append(torch.stack([sum(losses), *losses]).detach())
        wrapper.update_params(sum(losses))
    stats = [record["mean_stats"][name] for name in ("total", "main", *(f"aux_{k}" for k in range(1, len(losses))))]
    close(torch.stack(totals).mean(0), torch.tensor(stats), atol=2e-4, rtol=1e-4)
    check_steps(model, record, atol=5e-5)


@pytest.mark.parametrize("record", of_kind("seg_steps"))
def test_segmentation_steps(record):
    """Check the schedule as it took effect, one learning rate for all, and the groups as they were meant."""
    model, options = segmentor(record, "state_before").train(), record["optim"]
    meant = groups_of(model, layer_decay_wrapper(options["layer_decay"], options["weight_decay"], options["lr"]))
    assert meant.keys() == record["param_groups"].keys()
    for name, group in record["param_groups"].items():
        assert meant[name]["lr_scale"] == pytest.approx(group["lr_scale"]), name
        assert meant[name]["weight_decay"] == group["weight_decay"], name
    wrapper = build_optim_wrapper(model, layer_decay_wrapper(1.0, options["weight_decay"], options["lr"]))
    schedule = PolyLR(
        wrapper,
        power=options["poly_power"],
        eta_min=options["min_lr"],
        begin=0,
        end=options["iter_max"] + 1,
        by_epoch=False,
    )  # zero comes after the last step, not with it
    model.backbone.reducer.anneal(pruning_strength(record["epoch"], record["cropr_cfg"]["epochs"]))
    totals = []
    for image, labels, after in zip(record["images"], record["labels"], record["lr_after_each_step"], strict=True):
        losses = in_order(model.loss(image, with_maps(labels)), "decode.loss_ce")
        totals.append(torch.stack([sum(losses), *losses]).detach())
        wrapper.update_params(sum(losses))
        schedule.step()
        assert [g["lr"] for g in wrapper.optimizer.param_groups] == pytest.approx(
            after * len(wrapper.optimizer.param_groups), rel=1e-5
        )
    means = record["mean_losses"]
    stats = [means["total"], means["loss_main"], *(means[f"loss_aux_{k}"] for k in range(1, len(losses)))]
    close(torch.stack(totals).mean(0), torch.tensor(stats), atol=2e-4, rtol=1e-4)
    check_steps(model, record, atol=1e-3)
