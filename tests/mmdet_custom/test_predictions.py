import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict

import mmdet_custom  # noqa: F401  changes mmdet's heads
from mmcv_custom.cli.launch import build_model, read_config


def a_detector(config, **options):
    torch.manual_seed(0)
    model = build_model(read_config(config, options), None)
    for name, module in model.named_modules():  # so that some scores are above the threshold
        if name.endswith(("fc_cls", "retina_cls")):
            torch.nn.init.normal_(module.weight, std=0.3)
            torch.nn.init.zeros_(module.bias)
    return model


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("configs/quickstart/digits_vit-adapter-nano.py", {}),
        ("configs/quickstart/digits_vit-pyramid-nano.py", {}),
        ("configs/boxes/retinanet_vit-adapter-t-3x.py", {"model.backbone.init_cfg": None}),
    ],
    ids=["Mask R-CNN", "Cascade", "RetinaNet"],
)
def test_under_autocast_results_are_in_single_precision(config, options):
    model = a_detector(config, **options)
    data = model.data_preprocessor(demo_mm_inputs(1, [[3, 96, 128]]), False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(**data, mode="predict")[0].pred_instances
    assert len(found) and found.scores.dtype == found.bboxes.dtype == torch.float32
    assert not torch.equal(found.bboxes, found.bboxes.bfloat16().float())


def test_boxes_are_not_rounded_to_the_type_of_the_network():
    head = MODELS.build(dict(type="mmdet.RPNHead", in_channels=4, feat_channels=4)).eval()
    sides = [(4, 1280 // stride[0]) for stride in head.prior_generator.strides]
    anchors = head.num_base_priors
    scores = [torch.rand(1, anchors, *side).bfloat16() for side in sides]
    unmoved = [torch.zeros(1, 4 * anchors, *side).bfloat16() for side in sides]
    meta = dict(img_shape=(64, 1280), scale_factor=(1.0, 1.0))
    cfg = ConfigDict(nms_pre=500, max_per_img=500, nms=dict(type="nms", iou_threshold=0.9), min_bbox_size=0)
    (found,) = head.predict_by_feat(scores, unmoved, batch_img_metas=[meta], cfg=cfg)
    centres = (found.bboxes[:, 0] + found.bboxes[:, 2]) / 2
    inside = (found.bboxes[:, 0] > 1024) & (found.bboxes[:, 2] < 1280)
    assert inside.sum() > 20
    torch.testing.assert_close(centres[inside], 4 * (centres[inside] / 4).round(), rtol=0, atol=1e-3)  # of stride 4
