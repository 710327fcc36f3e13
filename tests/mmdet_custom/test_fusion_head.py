"""mmdet's fusion head with this project's scores: mmdet's own segments, and the query behind each of them."""

import pytest
import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmdet.registry import MODELS
from mmdet.structures import INSTANCE_OFFSET, DetDataSample
from mmengine.config import ConfigDict

import mmdet_custom  # noqa: F401 - registers

CLASSES = dict(num_things_classes=2, num_stuff_classes=2)
THING, STUFF = 1, 2


def a_head(**test_cfg):
    cfg = dict(object_mask_thr=0.2, iou_thr=0.0, filter_low_score=True, **test_cfg)
    return MODELS.build(dict(type="MaskFormerFusionHead", **CLASSES, test_cfg=ConfigDict(cfg)))


def queries(*found):
    """Return logits of queries, each ``(label, probability, rows, columns)`` of a mask in 12 x 16 pixels."""
    classes, masks = torch.zeros(len(found), 5), torch.full((len(found), 12, 16), -6.0)
    for i, (label, probability, rows, columns) in enumerate(found):
        classes[i, label] = (4 * torch.tensor(probability) / (1 - probability)).log()
        masks[i, rows, columns] = 6.0
    return classes, masks


def test_a_segment_has_the_score_of_its_query():
    left, right, top = slice(0, 8), slice(8, 16), slice(0, 6)
    found = queries(
        (THING, 0.9, top, left),
        (THING, 0.6, top, right),
        (STUFF, 0.7, slice(6, 12), slice(0, 12)),
        (STUFF, 0.8, slice(6, 12), slice(12, 16)),  # the same stuff, less of it
        (3, 0.1, slice(0, 12), slice(0, 16)),  # below the threshold
    )
    result = a_head().panoptic_postprocess(*found)
    first, second = THING + INSTANCE_OFFSET, THING + 2 * INSTANCE_OFFSET
    assert result.scores == pytest.approx({first: 0.9, second: 0.6, STUFF: 0.7})
    assert (result.sem_seg[0, :6, :8] == first).all() and (result.sem_seg[0, 6:] == STUFF).all()


def test_segments_are_those_of_mmdet_and_each_has_a_score():
    torch.manual_seed(0)
    classes, masks = 3 * torch.randn(30, 5), 4 * torch.randn(30, 1, 6, 8).expand(-1, 3, -1, -1).mean(1)
    masks = torch.nn.functional.interpolate(masks[None], scale_factor=8, mode="bilinear")[0]
    head = a_head()
    theirs = MaskFormerFusionHead(**CLASSES, test_cfg=head.test_cfg).panoptic_postprocess(classes, masks)
    result = head.panoptic_postprocess(classes, masks)
    assert torch.equal(result.sem_seg, theirs.sem_seg)
    probabilities, labels = classes.softmax(-1).max(-1)
    kept = (labels < 4) & (probabilities > 0.2)
    winners = (probabilities[kept, None, None] * masks[kept].sigmoid()).argmax(0)
    numbers = set(result.sem_seg.unique().tolist()) - {4}
    assert numbers == result.scores.keys() and len(numbers) > 4
    for number in numbers:
        if number >= INSTANCE_OFFSET:
            (winner,) = winners[result.sem_seg[0] == number].unique()
            assert result.scores[number] == probabilities[kept][winner].item()


def test_an_image_without_segments_has_no_scores():
    result = a_head().panoptic_postprocess(*queries((4, 0.9, slice(0, 6), slice(0, 6))))
    assert result.scores == {} and (result.sem_seg == 4).all()


def test_results_are_in_single_precision():
    classes, masks = queries((THING, 0.9, slice(0, 6), slice(0, 8)))
    head = a_head(panoptic_on=False, semantic_on=False, instance_on=True, max_per_image=1)
    sample = DetDataSample(metainfo=dict(img_shape=(12, 16), ori_shape=(12, 16)))
    (found,) = head.predict(classes[None].bfloat16(), masks[None].bfloat16(), [sample])
    found = found["ins_results"]
    assert len(found) and found.scores.dtype == found.bboxes.dtype == torch.float32
