"""Classes in each patch: against a loop over instances and patches, small and ignored instances, any size."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from mmdet_custom.presence import in_images, in_patches, presence_criterion
from token_pruning.auxiliary import AuxOutput

CLASSES, PATCH, SHARE = 3, 8, 0.1


def instances(size, number, rng, with_masks=True, wrapped=True):
    """Return random instances on an image of ``size`` (h, w): boxes, labels, and masks that fill half of their box."""
    h, w = size
    corners = np.sort(rng.uniform(0, 1, (number, 2, 2)), axis=1) * [w, h]
    boxes = torch.tensor(corners.reshape(number, 4), dtype=torch.float32)
    found = InstanceData(labels=torch.tensor(rng.integers(0, CLASSES, number)))
    found.bboxes = HorizontalBoxes(boxes) if wrapped else boxes
    if with_masks:
        masks = np.zeros((number, h, w), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < 0.5
        found.masks = BitmapMasks(masks, h, w)
    return found


def sample(true, ignored=None):
    found = DetDataSample()
    found.gt_instances = true
    if ignored is not None:
        found.ignored_instances = ignored
    return found


def pixels(one, row, col):
    """Return the instance's area in the patch and its whole area."""
    y, x = row * PATCH, col * PATCH
    if "masks" in one:
        mask = one.masks.masks[0]
        return float(mask[y : y + PATCH, x : x + PATCH].sum()), float(mask.sum())
    x1, y1, x2, y2 = torch.as_tensor(getattr(one.bboxes, "tensor", one.bboxes))[0].tolist()
    wide, high = (max(min(b, c + PATCH) - max(a, c), 0) for a, b, c in ((x1, x2, x), (y1, y2, y)))
    return wide * high, (x2 - x1) * (y2 - y1)


def inside(one, row, col):
    overlap, area = pixels(one, row, col)
    return overlap > 0 and overlap >= SHARE * min(area, PATCH**2)


@pytest.mark.parametrize("with_masks", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_against_a_loop(with_masks, wrapped):
    rng = np.random.default_rng(0)
    sizes, grid = [(30, 41), (19, 50), (40, 56)], (5, 7)
    samples = [
        sample(instances(size, n, rng, with_masks, wrapped), instances(size, m, rng, with_masks, wrapped))
        for size, n, m in zip(sizes, (4, 0, 6), (1, 0, 0), strict=True)
    ]
    labels, known = in_patches(samples, grid, CLASSES, PATCH, SHARE)
    assert labels.shape == (3, *grid, CLASSES) and known.shape == (3, *grid)
    for b, s in enumerate(samples):
        for row, col in np.ndindex(*grid):
            seen = {
                int(i.labels) for i in (s.gt_instances[k] for k in range(len(s.gt_instances))) if inside(i, row, col)
            }
            assert labels[b, row, col].nonzero().flatten().tolist() == sorted(seen)
            crowd = s.ignored_instances
            assert known[b, row, col] == (not any(inside(crowd[k], row, col) for k in range(len(crowd))))
    assert (labels.sum(3) > 1).any() and not known.all()


def test_small_instances_are_kept_and_large_ones_not_in_patches_they_barely_touch():
    boxes = torch.tensor(
        [[15.0, 15, 17, 17], [0, 0, 31.9, 32], [3, 40, 3, 60]]
    )  # on a corner of four patches; nearly two by two patches; empty
    true = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1, 2]))
    labels = in_patches([sample(true)], (4, 4), CLASSES)[0][0]
    assert labels[..., 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert labels[..., 1].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not labels[..., 2].any()
    true.bboxes[1] += 1  # one pixel of sixteen is in the next patch
    assert in_patches([sample(true)], (4, 4), CLASSES)[0][0, :, :, 1].sum() == 4


def test_polygons_are_masks():
    polygon = [np.array([0.0, 0, 16, 0, 16, 32, 0, 32])]
    true = InstanceData(bboxes=torch.tensor([[0.0, 0, 32, 32]]), labels=torch.tensor([1]))
    true.masks = PolygonMasks([polygon], 32, 32)
    assert in_patches([sample(true)], (2, 2), CLASSES)[0][0, :, :, 1].tolist() == [[True, False], [True, False]]


def test_an_ignored_box_without_a_mask_beside_masks():
    rng = np.random.default_rng(1)
    crowd = InstanceData(bboxes=torch.tensor([[0.0, 0, 16, 16]]), labels=torch.tensor([0]))
    known = in_patches([sample(instances((32, 32), 2, rng), crowd)], (2, 2), CLASSES)[1]
    assert known[0].tolist() == [[False, True], [True, True]]


def test_a_batch_equals_its_images():
    rng = np.random.default_rng(2)
    samples = [sample(instances((32, 48), n, rng)) for n in (3, 1, 0)]
    together = in_patches(samples, (2, 3), CLASSES)[0]
    for b, one in enumerate(samples):
        assert torch.equal(in_patches([one], (2, 3), CLASSES)[0][0], together[b])


def test_classes_in_images():
    true = InstanceData(bboxes=torch.zeros(3, 4), labels=torch.tensor([2, 2, 0]))
    crowd = InstanceData(bboxes=torch.zeros(1, 4), labels=torch.tensor([1]))
    none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    shown = in_images([sample(true), sample(true, crowd), sample(none), sample(none, none)], CLASSES)
    assert shown.int().tolist() == [[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_the_target_depends_on_the_number_of_queries():
    rng, bce = np.random.default_rng(3), torch.nn.functional.binary_cross_entropy_with_logits
    samples = [sample(instances((32, 48), n, rng), instances((32, 48), m, rng)) for n, m in ((3, 0), (1, 1))]
    criterion, logits = presence_criterion(samples, CLASSES, 16), torch.randn(2, 6, CLASSES)
    wanted = bce(logits[:, 0], in_images(samples, CLASSES).float())
    torch.testing.assert_close(criterion(AuxOutput(logits[:, :1], (2, 3), 1)), wanted)
    labels, known = (found.flatten(1, 2) for found in in_patches(samples, (2, 3), CLASSES))
    assert not known.all()
    torch.testing.assert_close(criterion(AuxOutput(logits, (2, 3), 6)), bce(logits[known], labels[known].float()))
    query_indices = torch.tensor([4, 1])
    some = known[:, query_indices]
    torch.testing.assert_close(
        criterion(AuxOutput(logits[:, :2], (2, 3), 6, query_indices)),
        bce(logits[:, :2][some], labels[:, query_indices][some].float()),
    )
