import pytest
import torch
from mmcv.ops import batched_nms

import mmdet_custom  # noqa: F401  changes MMCV's operators

BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]])
SCORES = torch.tensor([0.5, 0.75, 0.25])  # exact in every type


@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
@pytest.mark.parametrize("types", [("float32", "bfloat16"), ("float32", "float16"), ("bfloat16", "bfloat16")])
def test_boxes_and_scores_may_be_of_different_types(kind, types):
    boxes, scores = (values.to(getattr(torch, name)) for values, name in zip((BOXES, SCORES), types, strict=True))
    settings = dict(type=kind, iou_threshold=0.5)
    wanted, kept = batched_nms(BOXES, SCORES, torch.zeros(3), dict(settings))
    found, places = batched_nms(boxes, scores, torch.zeros(3), dict(settings))
    assert torch.equal(places, kept) and kept.tolist()[:2] == ([1, 2] if kind == "nms" else kept.tolist()[:2])
    torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0)
