"""Detectors: the reducer's losses and logs, and components independent of how a batch is split."""

from copy import deepcopy

import pytest
import torch
from mmdet.models.detectors import ATSS
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdet_custom import PrunedDetector, SeededSampler

BACKBONE = dict(
    _delete_=True,
    type="ViTAdapter",
    img_size=64,
    embed_dim=24,
    depth=4,
    num_heads=3,
    conv_inplane=8,
    interaction_indexes=[[0, 1], [2, 3]],
    deform_num_heads=3,
    reducer=dict(type="SViT", blocks=[2, 3], keep_ratio=0.5),
)


def a_detector(base, kind):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = get_config(base)
    backbone = deepcopy(BACKBONE)  # merging removes the _delete_ from it
    cfg.merge_from_dict(dict(model=dict(type=kind, backbone=backbone, neck=dict(in_channels=[24] * 4))))
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("mmdet::_base_/models/mask-rcnn_r50_fpn.py", "PrunedMaskRCNN"),
        ("mmdet::_base_/models/faster-rcnn_r50_fpn.py", "PrunedFasterRCNN"),
        ("mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py", "PrunedCascadeRCNN"),
    ],
)
def test_losses_and_logs(base, kind):
    model = a_detector(base, kind).train()
    data = demo_mm_inputs(
        2, [[3, 64, 96], [3, 96, 64]], num_items=[2, 0], num_classes=3, with_mask="ask" in kind or "Cascade" in kind
    )  # the second image has no ground truth
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    assert losses["loss_ratio"] > 0 and {"keep_ratio.2", "keep_ratio.3"} <= set(losses)
    total, logged = model.parse_losses(losses)
    total.backward()
    assert logged["loss"] >= logged["loss_ratio"] and "keep_ratio.2" in logged
    assert all(p.grad is not None for p in model.backbone.reducer.parameters())
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(data, False), mode="predict")
    assert len(results) == 2


def test_another_detector_by_the_mix_in_alone():
    @MODELS.register_module(force=True)
    class PrunedATSS(PrunedDetector, ATSS):
        pass

    init_default_scope("mmdet")
    cfg = get_config("mmdet::atss/atss_r50_fpn_1x_coco.py")
    backbone = dict(BACKBONE, reducer=dict(type="Cropr", keep_ratio=0.5, num_classes=80))
    cfg.merge_from_dict(dict(model=dict(type="PrunedATSS", backbone=backbone, neck=dict(in_channels=[24] * 4))))
    model = MODELS.build(cfg.model).train()
    data = demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_items=[2, 0], num_classes=3)
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    assert losses["loss_aux.0"] > 0 and losses["loss_bbox"]


def sampled(iteration, seed):
    torch.manual_seed(seed)
    MessageHub.get_current_instance().update_info("iter", iteration)
    sampler = SeededSampler(num=8, pos_fraction=0.5, add_gt_as_proposals=False)
    boxes = torch.arange(400.0).view(100, 4)
    positive = (torch.arange(100) < 20).long()
    assigned = AssignResult(2, positive, torch.zeros(100), torch.zeros(100).long())
    gt = InstanceData(bboxes=boxes[:2], labels=torch.zeros(2).long())
    result = sampler.sample(assigned, InstanceData(priors=boxes), gt)
    return torch.cat([result.pos_inds, result.neg_inds]).tolist()


def test_sampler_depends_on_image_and_iteration_only():
    assert sampled(3, seed=0) == sampled(3, seed=1)
    assert sampled(3, seed=0) != sampled(4, seed=0)
    assert len(sampled(3, 0)) == 8
