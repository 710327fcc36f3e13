"""DToP against the recorded numbers of the published code: masks and class maps exactly.

Shapes: B images, N tokens, K classes, C channels.
"""

import pytest
import torch
from fixture_files import close, of_kind
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmcv_custom.checkpoint.key_maps import from_published
from mmseg_custom.heads import scatter
from mmseg_custom.heads.stages import StageOutput
from mmseg_custom.losses import ATMLoss, Targets
from token_pruning import TokenSet, Trace
from token_pruning.counts import Counts
from token_pruning.methods.dtop import confident_tokens

SCORES, LOGITS = dict(atol=2e-5, rtol=0), dict(atol=2e-4, rtol=0)


def test_there_is_something_to_compare_with():
    assert of_kind("selection_rule") and of_kind("train_step") and of_kind("slide"), (
        "no DToP fixture found; PARITY_FIXTURES must name their folder"
    )


@pytest.mark.parametrize("record", of_kind("selection_rule"))
def test_selection_rule(record):
    for case in record["cases"]:
        active = ~case["pruned_before"]
        scores, counts = case["scores"].transpose(1, 2)[active], Counts.of(active.sum(1).tolist())
        leave = confident_tokens(scores, counts, case["thresh"], record["keep_per_class"])
        pruned = case["pruned_before"].masked_scatter(active, leave)
        assert (pruned & active).sum(1).tolist() == case["newly_pruned"], case["name"]
        if not case["has_ties"]:
            assert torch.equal(pruned, case["pruned_after"]), case["name"]


@pytest.mark.parametrize("record", of_kind("atm_loss"))
def test_atm_loss(record):
    for case in record["cases"]:
        weights = {k: v for k, v in case["params"].items() if k.endswith("weight")}
        loss, outputs = ATMLoss(**weights), case["outputs"]
        logits, masks = (outputs[k].clone().requires_grad_() for k in ("pred_logits", "pred_masks"))
        targets = Targets.of(case["label"], logits.shape[1], case["ignore_index"])
        found = loss(logits, masks, targets)
        for i, more in enumerate(outputs.get("aux_outputs", [])):
            found |= {f"{k}_{i}": v for k, v in loss(more["pred_logits"], more["pred_masks"], targets).items()}
        assert found.keys() == case["losses"].keys()
        for name, value in case["losses"].items():
            close(found[name], value, atol=2e-6)
        total = sum(found.values())
        close(total, case["total"], atol=5e-6)
        total.backward()
        close(logits.grad, case["grad_logits"], atol=1e-7)
        close(masks.grad[0, 0], case["grad_masks_first"], atol=1e-7)
        assert masks.grad.norm().item() == pytest.approx(case["grad_masks_norm"], rel=1e-5)


def with_labels(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


@pytest.mark.parametrize("record", of_kind("other_heads"))
@pytest.mark.parametrize("name", ["ATMHeadV2", "ATMSingleHeadV2", "ATMSingleHeadV2_multistage", "ATMHead_v1"])
def test_heads_of_several_stages(record, name):
    wanted, maps = record["heads"][name], [x.float() for x in record["features"]]
    init_default_scope("mmseg")
    config = {k: v for k, v in wanted["config"].items() if k not in ("img_size", "embed_dims", "loss_decode")}
    head = MODELS.build(dict(type=name.split("_")[0], dropout=0.0, **config))
    head.load_state_dict({k: v.float() for k, v in wanted["state_dict"].items()})
    step, size = wanted["eval_stride"], tuple(wanted["eval_shape"][2:])
    scores = head.eval().predict(maps, [dict(img_shape=size)], None)
    close(scores[..., ::step, ::step], wanted["eval_output"], **SCORES)
    found = head.train()(maps)
    close(found[-1].class_logits, wanted["train_pred_logits"], **LOGITS)
    for ours, theirs in zip(found, wanted["train_aux"], strict=False):
        close(ours.class_logits, theirs["pred_logits"], **LOGITS)
        close(ours.masks, theirs["pred_masks"], **LOGITS)
    if "losses" in wanted:  # the published v1 cannot be trained
        losses = head.loss_by_feat(found, with_labels(record["label"]))
        assert len(found) - 1 == len(wanted["train_aux"]) and losses.keys() == wanted["losses"].keys()
        for key, value in wanted["losses"].items():
            close(losses[key], value.view_as(losses[key]), atol=5e-6)


@pytest.mark.parametrize("record", of_kind("other_heads"))
def test_the_mlp_head(record):
    wanted = record["heads"]["MLPHead"]
    init_default_scope("mmseg")
    config = {k: v for k, v in wanted["config"].items() if k not in ("img_size", "patch_size")}
    head = MODELS.build(dict(type="MLPHead", **config))
    state = {k: v.float() for k, v in wanted["state_dict"].items() if not k.startswith("conv_seg")}  # unused there
    head.load_state_dict(state)
    x = record["features"][config["in_index"]].float()
    tokens = TokenSet.full(x.flatten(2).transpose(1, 2), tuple(x.shape[2:]))
    logits, _ = head(tokens)
    size = tuple(record["label"].shape[1:])
    stage_output = StageOutput(scatter(None, tokens, logits), None, tokens.grid, 0, size, size)
    close(head.score_map(stage_output), wanted["eval_output"], **LOGITS)
    views, targets = [None] * config["in_index"] + [stage_output], Targets.of(record["label"], head.num_classes)
    losses = head.loss(views, targets, None)
    assert losses.keys() == wanted["losses"].keys()
    for key, value in wanted["losses"].items():
        close(losses[key], value.view_as(losses[key]), atol=5e-6)


def model_of(record, **segmentor):
    """Return our segmentor with the recorded weights."""
    init_default_scope("mmseg")
    config = record["config"]
    trunk, heads = config["backbone"], [*config["auxiliary_head"], config["decode_head"]]
    thresholds = [None if head["thresh"] == 1 else head["thresh"] for head in heads]
    backbone = dict(
        type="StagedViT",
        img_size=trunk["img_size"][0],
        patch_size=trunk["patch_size"],
        embed_dim=trunk["embed_dims"],
        depth=trunk["num_layers"],
        num_heads=trunk["num_heads"],
        mlp_ratio=trunk["mlp_ratio"],
        qkv_bias=trunk["qkv_bias"],
        norm_eps=trunk["norm_cfg"]["eps"],
        class_token=trunk["with_cls_token"],
        out_indices=trunk["out_indices"],
        reducer=dict(type="DToP", stages=trunk["out_indices"][:-1], threshold=thresholds[:-1], class_tokens="score"),
    )
    ours = [
        dict(
            {k: v for k, v in head.items() if k not in ("img_size", "thresh", "loss_decode")},
            type="SegViTHead",
            dropout=0.0,
            loss_decode=dict(type="ATMLoss"),
        )
        for head in heads
    ]
    model = MODELS.build(
        ConfigDict(
            type="DToPSegmentor",
            backbone=backbone,
            decode_head=ours[-1],
            auxiliary_head=ours[:-1],
            **{"test_cfg": dict(mode="whole"), **segmentor},
        )
    )
    state = from_published({k: v.float() for k, v in record["state_dict"].items()})
    report = model.load_state_dict(state, strict=False)
    assert report.missing_keys == []
    assert {*report.unexpected_keys} <= {"backbone.cls_token", "backbone.norm.weight", "backbone.norm.bias"}
    return model.eval()


def images_of(record):
    return record["input_int8"].float() * record["input_scale"]


def scores_of(model, image):
    size = tuple(image.shape[-2:])
    return model.inference(image, [dict(img_shape=size, ori_shape=size)] * len(image))


def check_stages(model, record, image):
    """Compare all stages in training mode, in which every head runs; nothing is random here."""
    sets, run = [], model.backbone.forward
    model.backbone.forward = lambda *args: sets.extend(run(*args)) or sets
    with Trace() as trace:
        views = model.train().extract_feat(image)
    del model.backbone.forward
    used, columns = trace.passes[0].used, record["stages"][0]["pruned_before"].shape[1]
    for stage, stage_output, head, tokens in zip(record["stages"], views, model.heads, sets, strict=True):
        block = stage["out_index"]
        assert torch.equal(~used[block], stage["pruned_before"])
        if block + 1 in used:
            assert torch.equal(~used[block + 1], stage["pruned_after"])
        assert torch.equal(~tokens.members(), stage["pruned_after"])
        assert stage_output.mask_logits.shape[1] == columns
        close(stage_output.mask_logits.transpose(1, 2), stage["canvas"], **LOGITS)
        close(stage_output.class_logits, stage["class_logits"], **LOGITS)
        scores = head.scores(stage_output.mask_logits, stage_output.class_logits[:, None])
        close(scores.transpose(1, 2), stage["scores"], **SCORES)
        # There, tokens that left at an earlier stage are zeros; here they keep the value that they left with.
        there = ~stage["pruned_before"][:, tokens.prefix :]
        features = tokens.restore()[:, tokens.prefix :]
        if block == record["stages"][-1]["out_index"] and record["config"]["backbone"]["final_norm"]:
            eps = record["config"]["backbone"]["norm_cfg"]["eps"]
            affine = [record["state_dict"][f"backbone.ln1.{name}"].float() for name in ("weight", "bias")]
            features = torch.nn.functional.layer_norm(features, features.shape[2:], *affine, eps)
        wanted = stage["features"].flatten(2).transpose(1, 2)
        close(features[..., :: stage["features_channel_step"]][there], wanted[there], **LOGITS)
        if "cls_token_out" in stage:
            there = ~stage["pruned_before"][:, 0]
            close(tokens.restore()[:, 0][there], stage["cls_token_out"][there], **LOGITS)
    model.eval()


@pytest.mark.parametrize("record", of_kind("end_to_end"))
@torch.no_grad()
def test_end_to_end(record):
    model, image = model_of(record), images_of(record)
    check_stages(model, record, image)
    scores = scores_of(model, image)
    step = record["prediction_stride"]
    close(scores[..., ::step, ::step], record["prediction"], **SCORES)
    assert torch.equal(scores.argmax(1), record["argmax"].long())
    singles = torch.cat([scores_of(model, one[None]) for one in image])
    close(singles, scores, **SCORES)


@pytest.mark.parametrize("record", of_kind("slide"))
@torch.no_grad()
def test_slide(record):
    crop, stride = (record["crop"],) * 2, (record["stride"],) * 2
    model = model_of(record, test_cfg=dict(mode="slide", crop_size=crop, stride=stride))
    scores = scores_of(model, images_of(record))
    step = record["output_stride"]
    close(scores[..., ::step, ::step], record["output"], **SCORES)
    assert torch.equal(scores.argmax(1), record["argmax"].long())


@pytest.mark.parametrize("record", of_kind("train_step"))
def test_train_step(record):
    model = model_of(record).train()
    with Trace() as trace:
        losses = model.loss(images_of(record), with_labels(record["label"]))
    used = trace.passes[0].used
    for pruned, block in zip(record["pruned_after"], model.backbone.out_indices[:-1], strict=False):
        assert torch.equal(~used[block + 1], pruned)
    wanted = dict(record["losses"])
    assert {k for k in losses if not k.startswith("keep_ratio")} == wanted.keys()
    for key, value in wanted.items():
        close(losses[key], value.view_as(losses[key]), atol=5e-6)
    total = sum(value for key, value in losses.items() if "loss" in key)
    close(total, record["total_loss"].view_as(total), atol=2e-5)

    parameters = dict(model.named_parameters())
    decode_only = sum(value for key, value in losses.items() if "loss" in key and key.startswith("decode"))
    names = list(record["decode_only_aux_grad_norms"])
    for name, grad in zip(
        names,
        torch.autograd.grad(decode_only, [parameters[n] for n in names], retain_graph=True, allow_unused=True),
        strict=True,
    ):
        norm = 0.0 if grad is None else grad.norm().item()
        assert norm == pytest.approx(record["decode_only_aux_grad_norms"][name], rel=1e-4, abs=1e-5), name
    total.backward()
    norms = from_published({**record["grad_norms"]})
    assert norms.keys() - parameters.keys() == {"backbone.cls_token"} and norms["backbone.cls_token"] == 0
    for name, parameter in parameters.items():
        norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
        assert norm == pytest.approx(float(norms[name]), rel=1e-4, abs=1e-5), name
    # All names in one call: the schema is told by names that only the whole has.
    full = from_published({**dict.fromkeys(record["grad_norms"]), **record["grads"]})
    for name, gradient in full.items():
        if gradient is not None:
            close(parameters[name].grad, gradient, atol=5e-6)
