"""The classifier in mmpretrain: losses, predictions, published checkpoints, and one NaN image in a batch."""

import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmpretrain_custom  # noqa: F401 - registers the models
from mmcv_custom import ConfigError, load_into
from mmcv_custom.cli import option_values
from mmcv_custom.cli.launch import read_config, with_options

SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=5)
RANDOM = dict(type="Random", blocks=[1, 2], keep_ratio=0.5)
SVIT = dict(type="SViT", blocks=[1, 2], keep_ratio=0.5)
CROPR = dict(type="Cropr", keep_ratio=0.5, num_classes=5)


def classifier(backbone=(), name="deit_tiny_patch16_224", **kwargs):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    network = dict(dict(type="TimmViT", model_name=name, **SIZES), **dict(backbone))
    return MODELS.build(dict(type="PrunedClassifier", backbone=network, **kwargs))


def batch(number=4, classes=5):
    torch.manual_seed(1)
    samples = [DataSample().set_gt_label(i % classes) for i in range(number)]
    return dict(inputs=torch.randint(0, 256, (number, 3, 32, 32), dtype=torch.uint8), data_samples=samples)


CRITERION = dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original")
MIX = dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)])


@pytest.mark.parametrize(
    "loss, train_cfg",
    [
        (None, None),
        (dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"), None),
        (dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"), MIX),
        (dict(type="CrossEntropyLoss", use_soft=True), MIX),
        (dict(type="CrossEntropyLoss", use_sigmoid=True), MIX),
    ],
)
@pytest.mark.parametrize("reducer", [None, RANDOM, SVIT, CROPR])
def test_losses_train_every_weight(reducer, loss, train_cfg):
    model = classifier(dict(reducer=reducer), loss=loss, train_cfg=train_cfg).train()
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    assert total.isfinite() and all(p.grad is not None for p in model.parameters())
    assert ("loss_ratio" in logged) == (reducer is SVIT) and ("loss_aux.1" in logged) == (reducer is CROPR)


def test_the_printed_counterpart_of_bce_loss_is_the_mean_over_images_and_classes():
    page = (Path(__file__).parents[2] / "docs/classification.md").read_text()
    printed = re.search(r"`--bce-loss` \| `model\.loss = (dict\(.*?\))`", page)[1]
    cfg = with_options(read_config("deit/deit-s"), {"model.loss": option_values.parse(printed)})
    init_default_scope("mmpretrain")
    scores, target = torch.randn(4, 1000), torch.rand(4, 1000)
    found = MODELS.build(cfg.model.loss)(scores, target, avg_factor=len(scores))
    torch.testing.assert_close(found, torch.nn.functional.binary_cross_entropy_with_logits(scores, target))


def test_auxiliary_heads_have_the_main_heads_loss():
    model = classifier(dict(reducer=CROPR), loss=CRITERION, train_cfg=MIX).train()
    data = model.data_preprocessor(batch(), True)
    seen, run = [], model.head.loss_module.forward
    model.head.loss_module.forward = lambda scores, target, **kwargs: (
        seen.append((scores, target)) or run(scores, target, **kwargs)
    )
    losses = model(**data, mode="loss")
    (_, aux0), (_, aux1), (_, main) = seen
    assert torch.equal(aux0, main) and torch.equal(aux1, main) and ((main > 0) & (main < 1)).any()
    torch.testing.assert_close(losses["loss_aux.0"], run(seen[0][0], main, avg_factor=4))


def test_only_the_reducer_learns_in_a_frozen_model():
    model = classifier(dict(reducer=CROPR, drop_path_rate=0.5), frozen=True).train()
    reducer = model.backbone.reducer
    assert reducer.training and not model.backbone.training and not model.backbone.blocks[0].training
    losses = model(**model.data_preprocessor(batch(), True), mode="loss")
    assert not losses["loss"].requires_grad
    model.parse_losses(losses)[0].backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        f"backbone.reducer.{n}" for n, _ in reducer.named_parameters()
    }
    assert not model.eval().backbone.reducer.training
    with pytest.raises(ConfigError, match="frozen=True leaves only the reducer to learn, and the backbone's has no"):
        classifier(dict(reducer=RANDOM), frozen=True)


@torch.no_grad()
def test_pooling_may_be_over_kept_tokens_only():
    pooled = dict(global_pool="avg", pool_include_prefix=True, reducer=dict(CROPR, fusion=False))
    survivors, everyone = classifier(dict(pooled, output="kept")).eval(), classifier(pooled).eval()
    x = torch.randn(2, 3, 32, 32)
    assert survivors.backbone.forward_features(x).shape == (2, 1 + 8, 32)
    assert everyone.backbone.forward_features(x).shape == (2, 1 + 16, 32)
    with pytest.raises(ValueError, match="output is 'best'; choose one of map, kept"):
        classifier(dict(pooled, output="best"))


def test_smoothed_and_mixed_targets_are_deits():
    """DeiT mixes the smoothed labels of both images; smoothing the mixed labels, as here, gives the same number."""
    model = classifier(loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"))
    scores, (a, b), share = torch.randn(1, 5), (1, 3), 0.3
    sample = DataSample().set_gt_score(share * torch.eye(5)[a] + (1 - share) * torch.eye(5)[b])
    smooth = [0.9 * torch.eye(5)[i] + 0.1 / 5 for i in (a, b)]
    wanted = -((share * smooth[0] + (1 - share) * smooth[1]) * scores.log_softmax(1)).sum()
    torch.testing.assert_close(model.head.loss((scores,), [sample])["loss"], wanted)


def test_predictions_are_what_mmpretrains_accuracy_reads():
    model = classifier(dict(reducer=RANDOM)).eval()
    data = batch()
    with torch.no_grad():
        samples = model.test_step(data)
        scores = model(model.data_preprocessor(batch())["inputs"])
    torch.testing.assert_close(torch.stack([s.pred_score for s in samples]), scores.softmax(1))
    evaluator = Evaluator(metrics=Accuracy(topk=(1, 5)))
    evaluator.process(samples)
    found = evaluator.evaluate(4)
    right = (scores.argmax(1) == torch.arange(4)).float().mean().item()
    assert found == {"accuracy/top1": pytest.approx(100 * right), "accuracy/top5": 100.0}


def test_probabilities_are_not_rounded_under_autocast():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (first, *_) = classifier().eval().test_step(batch())
    assert first.pred_score.dtype == torch.float32 and first.pred_score.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("reducer", [None, RANDOM, SVIT])
def test_an_image_of_nan_spoils_no_other_and_is_counted_as_wrong(reducer):
    model = classifier(dict(reducer=reducer)).eval()
    data = batch()
    data["inputs"] = data["inputs"].float()
    with torch.no_grad():
        before = torch.stack([s.pred_score for s in model.test_step(data)])
        data["inputs"][2] = torch.nan
        samples = model.test_step(data)
    after = torch.stack([s.pred_score for s in samples])
    good = [0, 1, 3]
    torch.testing.assert_close(after[good], before[good], atol=1e-6, rtol=1e-5)
    assert after[2].isnan().all()
    for i, label in enumerate(before.argmax(1)):  # all predictions are right except for the NaN image
        samples[i].set_gt_label(int(label))
    evaluator = Evaluator(metrics=Accuracy())
    evaluator.process(samples)
    assert evaluator.evaluate(4)["accuracy/top1"] == 75


def published(name="deit_tiny_patch16_224", **sizes):
    torch.manual_seed(2)
    model = timm.create_model(name, **dict(SIZES, **sizes)).eval()
    return model, dict(model=model.state_dict())


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_a_published_file_loads_head_and_all(name, capsys):
    source, checkpoint = published(name)
    model = classifier(dict(reducer=SVIT), name).eval()
    report = load_into(model, checkpoint)
    assert report.loaded == len(source.state_dict()) and {m.split(".")[1] for m in report.missing} == {"reducer"}
    model.backbone.reducer.mode = "ratio"
    images = torch.randn(2, 3, 32, 32)
    dense = classifier(name=name).eval()
    load_into(dense, checkpoint)
    with torch.no_grad():
        torch.testing.assert_close(dense(images), source(images), atol=1e-5, rtol=1e-4)
    assert "loaded" in capsys.readouterr().out


def test_other_sizes_of_image_and_head(capsys):
    source, checkpoint = published(num_classes=7, img_size=48)
    model = classifier()
    fresh = model.backbone.head.weight.clone()
    report = load_into(model, checkpoint)
    assert torch.equal(model.backbone.head.weight, fresh)
    assert torch.equal(model.backbone.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert report.resized == [("backbone.pos_embed", (1, 37, 32), (1, 17, 32))]
    output = capsys.readouterr().out
    assert "resized backbone.pos_embed: [1, 37, 32] -> [1, 17, 32]" in output
    assert "kept as initialised backbone.head.weight: [7, 32] in the file, [5, 32] in the model" in output


def test_a_distilled_file_in_a_model_with_one_head():
    source, checkpoint = published("deit_tiny_distilled_patch16_224")
    model = classifier()
    report = load_into(model, checkpoint)
    assert {n.split(".")[1] for n in report.unexpected} == {"dist_token", "head_dist"}
    assert torch.equal(model.backbone.pos_embed[:, 1:], source.pos_embed[:, 2:])
