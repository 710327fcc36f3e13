"""DToP in a detector: who leaves, what its heads learn from, the dense model, batches, errors."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmcv_custom.errors import ConfigError
from mmdet_custom.token_labels import TokenLabels
from token_pruning import Trace

BACKBONE = dict(_delete_=True, type="ViTAdapter", img_size=64, embed_dim=24, depth=4, num_heads=3, conv_inplane=8,
                interaction_indexes=[[0, 1], [2, 3]], deform_num_heads=3)
DTOP = dict(type="DToP", stages=[0, 1], threshold=0.5, keep_per_class=2)


def a_detector(reducer=DTOP, backbone=None, **model):
    init_default_scope("mmdet")
    cfg = get_config("mmdet::_base_/models/mask-rcnn_r50_fpn.py")
    backbone = dict(deepcopy(BACKBONE), reducer=reducer, **backbone or {})
    model = dict(type="DToPMaskRCNN", backbone=backbone, neck=dict(in_channels=[24] * 4), **model)
    cfg.merge_from_dict(dict(model=model))
    torch.manual_seed(0)
    built = MODELS.build(cfg.model)
    for head in built.token_heads.values():  # fresh heads are undecided
        torch.nn.init.normal_(head.classify.weight)
    for interaction in built.backbone.interactions:
        torch.nn.init.normal_(interaction.injector.gamma)
    return built


def a_batch(model, crowd=False):
    data = demo_mm_inputs(2, [[3, 64, 96], [3, 64, 96]], num_items=[2, 0], num_classes=80, with_mask=True)
    if crowd:
        data["data_samples"][0].ignored_instances = InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, 48.0, 64.0]]), labels=torch.tensor([0]))
    return model.data_preprocessor(data, True)


def watched(model, monkeypatch):
    """The token sets that the judge will have been asked about, in order."""
    seen, judge = [], model.judge

    def look(block, tokens, labels):
        seen.append(tokens)
        return judge(block, tokens, labels)

    monkeypatch.setattr(model, "judge", look)
    return seen


@pytest.mark.parametrize("class_token", [False, True])
def test_heads_learn_from_the_tokens_that_they_look_at(class_token, monkeypatch):
    model = a_detector(backbone=dict(class_token=class_token)).train()
    seen = watched(model, monkeypatch)
    data = a_batch(model, crowd=True)
    losses = model(**data, mode="loss")
    labels = TokenLabels.of_samples(data["data_samples"], seen[0].grid, 80)
    assert not labels.known.all() and seen[1].counts < seen[0].counts
    for block, tokens in enumerate(seen):
        logits, answers = model.token_heads[str(block)](tokens.x), []
        for row, position in enumerate((torch.arange(len(tokens.x)) if tokens.is_full else tokens.index).tolist()):
            image, place = divmod(position, tokens.positions)
            place -= class_token
            if place >= 0 and labels.known[image, place]:
                answers.append(F.binary_cross_entropy_with_logits(logits[row], labels.targets[image, place].float()))
        torch.testing.assert_close(losses[f"loss_token.{block}"], torch.stack(answers).mean())
    total, logged = model.parse_losses(losses)
    total.backward()
    assert {"loss_token.0", "loss_token.1", "keep_ratio.0", "keep_ratio.1"} <= set(logged)
    assert all(p.grad is not None and p.grad.any() for p in model.token_heads.parameters())


def test_the_weight_of_the_loss():
    loss = dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=0.25)
    light, usual = (a_detector(**kwargs).train() for kwargs in (dict(loss_token=loss), {}))
    data = a_batch(usual)
    ratio = light(**data, mode="loss")["loss_token.0"] / usual(**data, mode="loss")["loss_token.0"]
    assert ratio.item() == pytest.approx(0.25)


@torch.no_grad()
def test_sure_background_leaves_and_nothing_else(monkeypatch):
    model = a_detector(dict(DTOP, stages=[1])).eval()
    seen = watched(model, monkeypatch)
    with Trace() as trace:
        model.extract_feat(a_batch(model)["inputs"])
    logits = model.token_heads["1"](seen[0].x).view(2, -1, 81)
    sure, used = logits[..., -1].sigmoid() > 0.5, trace.passes[0].used[2]
    assert (logits[..., :-1].sigmoid() > 0.5).any(2).all()  # every token is sure of some class, too
    assert used[~sure].all() and (~used).any()
    assert ((used & sure).sum(1) == 2).all()  # keep_per_class


@torch.no_grad()
def test_a_batch_is_its_pictures():
    model = a_detector().eval()
    data = a_batch(model)
    with Trace() as trace:
        together = model.extract_feat(data["inputs"])
        singles = [model.extract_feat(one[None]) for one in data["inputs"]]
    assert torch.equal(trace.passes[0].masks(), torch.cat([p.masks() for p in trace.passes[1:]]))
    for level, maps in enumerate(together):
        torch.testing.assert_close(maps, torch.cat([s[level] for s in singles]), atol=2e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("reducer", [dict(DTOP, threshold=None), dict(DTOP, threshold=1.0), None])
def test_nobody_leaves_without_thresholds(reducer):
    pruned, same = a_detector().eval(), a_detector(reducer).eval()
    same.load_state_dict(pruned.state_dict(), strict=False)
    pruned.backbone.reducer = None  # the dense model
    inputs = a_batch(pruned)["inputs"]
    for a, b in zip(pruned.extract_feat(inputs), same.extract_feat(inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_other_reducers_have_no_heads():
    model = a_detector(dict(type="ToMe", r=2)).train()
    assert not len(model.token_heads) and "loss_token.1" not in model(**a_batch(model), mode="loss")


def test_other_backbones_are_one_sentence():
    init_default_scope("mmdet")
    cfg = get_config("mmdet::_base_/models/mask-rcnn_r50_fpn.py")
    with pytest.raises(ConfigError, match="cannot look at the tokens of a ResNet: use ViTAdapter or ViTBaseline"):
        MODELS.build(dict(cfg.model, type="DToPMaskRCNN"))
