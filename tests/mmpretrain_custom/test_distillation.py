"""Distillation losses are as published, and teachers are frozen and not saved."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmpretrain_custom  # noqa: F401 - registers the models
from mmcv_custom import CheckpointError, ConfigError
from token_pruning import Trace

SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=5)
TEACHER = dict(model_name="deit_tiny_patch16_224", **SIZES)
SVIT = dict(type="SViT", blocks=[1, 2], keep_ratio=0.5)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(2)
    torch.save(dict(model=timm.create_model(**TEACHER).state_dict()), tmp_path / "teacher.pth")
    return str(tmp_path / "teacher.pth")


def classifier(distillation, name="deit_tiny_patch16_224", **backbone):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="PrunedClassifier",
            distillation=distillation,
            backbone=dict(dict(type="TimmViT", model_name=name, **SIZES), **backbone),
        )
    ).train()


def data():
    torch.manual_seed(1)
    return dict(inputs=torch.randn(4, 3, 32, 32), data_samples=[DataSample().set_gt_label(i) for i in range(4)])


def teacher_scores(checkpoint, images):
    teacher = timm.create_model(**TEACHER).eval()
    teacher.load_state_dict(torch.load(checkpoint)["model"])
    with torch.no_grad():
        return teacher(images)


@pytest.mark.parametrize(
    "teacher",
    [TEACHER, dict(type="TimmViT", **TEACHER), dict(type="PrunedClassifier", backbone=dict(type="TimmViT", **TEACHER))],
    ids=["timm", "network", "classifier"],
)
def test_the_second_head_follows_the_teacher_and_the_first_the_labels(checkpoint, teacher):
    teacher = dict(teacher, checkpoint=checkpoint)
    model = classifier(
        dict(type="DeiTDistillation", kind="hard", alpha=0.3, teacher=teacher), "deit_tiny_distilled_patch16_224"
    )
    batch = data()
    first, second = model.backbone(batch["inputs"])
    losses = model(**batch, mode="loss")
    taught = teacher_scores(checkpoint, batch["inputs"]).argmax(1)
    torch.testing.assert_close(losses["loss_cls"], 0.7 * F.cross_entropy(first, torch.arange(4)))
    torch.testing.assert_close(losses["loss_distill"], 0.3 * F.cross_entropy(second, taught))
    assert set(losses) == {"loss_cls", "loss_distill"}


def test_a_model_with_one_head_follows_both(checkpoint):
    model = classifier(dict(type="DeiTDistillation", kind="hard", teacher=dict(TEACHER, checkpoint=checkpoint)))
    batch = data()
    scores = model.backbone(batch["inputs"])
    taught = teacher_scores(checkpoint, batch["inputs"]).argmax(1)
    torch.testing.assert_close(model(**batch, mode="loss")["loss_distill"], 0.5 * F.cross_entropy(scores, taught))


def test_the_teacher_is_frozen_shared_and_not_saved(checkpoint):
    model = classifier(dict(type="DeiTDistillation", teacher=dict(TEACHER, checkpoint=checkpoint)))
    plain = classifier(None)
    model.init_weights()
    teacher = model.distillation.teacher
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    assert copy.deepcopy(model).distillation.teacher is teacher
    before = copy.deepcopy(teacher.model.state_dict())
    total, _ = model.parse_losses(model(**data(), mode="loss"))
    total.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert all(p.grad is None for p in teacher.model.parameters()) and not teacher.model.training
    assert all(torch.equal(v, before[k]) for k, v in teacher.model.state_dict().items())


def test_dynamicvits_losses_are_its_formulas_on_the_tokens_that_the_last_block_kept(checkpoint):
    model = classifier(
        dict(type="DynamicViTDistillation", teacher=dict(TEACHER, checkpoint=checkpoint)),
        reducer=dict(type="Random", blocks=[2, 3], keep_ratio=0.5),
    )
    batch, found = data(), {}
    model.backbone.norm.register_forward_hook(lambda module, args, out: found.update(tokens=out.detach()))
    torch.manual_seed(3)
    with Trace() as trace:
        losses = model(**batch, mode="loss")
    torch.manual_seed(3)
    scores = model.backbone(batch["inputs"])
    kept = trace.passes[0].used[3].clone()
    assert kept[:, 0].all() and (kept.sum(1) == 1 + 8).all()
    teacher = model.distillation.teacher.model
    with torch.no_grad():
        tokens, taught = teacher.forward_features(batch["inputs"]), teacher(batch["inputs"])
    kept[:, 0] = False
    wanted = 0.5 * F.mse_loss(found["tokens"][kept], tokens[kept])
    torch.testing.assert_close(losses["loss_distill_tokens"], wanted)
    wanted = 0.5 * F.kl_div(scores.log_softmax(1), taught.softmax(1), reduction="batchmean")
    torch.testing.assert_close(losses["loss_distill_scores"], wanted)
    torch.testing.assert_close(losses["loss_cls"], F.cross_entropy(scores, torch.arange(4)))


def test_dynamicvits_distillation_beside_the_reducers_own_losses(checkpoint):
    model = classifier(dict(type="DynamicViTDistillation", teacher=dict(TEACHER, checkpoint=checkpoint)), reducer=SVIT)
    total, logged = model.parse_losses(model(**data(), mode="loss"))
    total.backward()
    assert {"loss_cls", "loss_distill_scores", "loss_distill_tokens", "loss_ratio"} <= logged.keys()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.backbone.reducer.parameters())


def test_a_model_that_only_predicts_needs_no_teachers_file():
    model = classifier(dict(type="DeiTDistillation", teacher=dict(TEACHER, checkpoint="nowhere.pth"))).eval()
    with torch.no_grad():
        assert len(model(**data(), mode="predict")) == 4
    with pytest.raises(CheckpointError, match="nowhere.pth does not exist"):
        model.init_weights()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(kind="none"), "choose 'soft' or 'hard', or distillation=None"),
        (dict(alpha=1.5), r"alpha 1.5 must be in \[0, 1\]"),
        (dict(tau=0), "tau 0 greater than 0"),
        (dict(teacher=TEACHER), "has no checkpoint"),
    ],
)
def test_wrong_options_get_one_sentence(change, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        classifier(dict(dict(type="DeiTDistillation", teacher=dict(TEACHER, checkpoint="a.pth")), **change))


def test_a_teacher_of_other_classes_or_another_size_is_refused(checkpoint):
    model = classifier(dict(type="DeiTDistillation", teacher=dict(TEACHER, checkpoint=checkpoint)), num_classes=6)
    with pytest.raises(ConfigError, match="teacher has 5 classes and the model 6"):
        model(**data(), mode="loss")
    model = classifier(dict(type="DynamicViTDistillation", teacher=dict(TEACHER, checkpoint=checkpoint)), embed_dim=64)
    with pytest.raises(ConfigError, match="needs a teacher of the same size"):
        model(**data(), mode="loss")
