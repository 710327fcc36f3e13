"""What each patch shows: against a loop over instances and patches, small and ignored instances, any size."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from mmdet_custom.token_labels import TokenLabels

CLASSES, PATCH, SHARE = 3, 8, 0.1


def instances(size, number, rng, with_masks=True, wrapped=True):
    """Random instances on a picture of ``size`` (h, w): boxes, a class each, and masks that fill half of their box."""
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
    """How much of the instance lies in the patch, and how large it is in all."""
    y, x = row * PATCH, col * PATCH
    if "masks" in one:
        mask = one.masks.masks[0]
        return float(mask[y:y + PATCH, x:x + PATCH].sum()), float(mask.sum())
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
    samples = [sample(instances(size, n, rng, with_masks, wrapped), instances(size, m, rng, with_masks, wrapped))
               for size, n, m in zip(sizes, (4, 0, 6), (1, 0, 0), strict=True)]
    labels = TokenLabels.of_samples(samples, grid, CLASSES, PATCH, SHARE)
    assert labels.targets.shape == (3, 35, CLASSES + 1) and labels.known.shape == (3, 35)
    for b, s in enumerate(samples):
        for n, (row, col) in enumerate(np.ndindex(*grid)):
            seen = {int(i.labels) for i in (s.gt_instances[k] for k in range(len(s.gt_instances)))
                    if inside(i, row, col)}
            assert labels.targets[b, n].nonzero().flatten().tolist() == sorted(seen or {CLASSES})
            crowd = s.ignored_instances
            assert labels.known[b, n] == (not any(inside(crowd[k], row, col) for k in range(len(crowd))))
    assert (labels.targets[..., :-1].sum(2) > 1).any() and not labels.known.all()


def test_small_instances_are_somewhere_and_large_ones_not_where_they_hardly_are():
    boxes = torch.tensor([[15., 15, 17, 17], [0, 0, 31.9, 32], [3, 40, 3, 60]])  # on a corner; nearly two by two; empty
    true = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1, 2]))
    targets = TokenLabels.of_samples([sample(true)], (4, 4), CLASSES, 16).targets[0].view(4, 4, -1)
    assert targets[..., 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert targets[..., 1].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not targets[..., 2].any()
    true.bboxes[1] += 1  # one pixel of sixteen reaches over
    assert TokenLabels.of_samples([sample(true)], (4, 4), CLASSES, 16).targets[0, :, 1].sum() == 4


def test_polygons_are_masks():
    polygon = [np.array([0., 0, 16, 0, 16, 32, 0, 32])]
    true = InstanceData(bboxes=torch.tensor([[0., 0, 32, 32]]), labels=torch.tensor([1]))
    true.masks = PolygonMasks([polygon], 32, 32)
    targets = TokenLabels.of_samples([sample(true)], (2, 2), CLASSES).targets[0]
    assert targets[:, 1].tolist() == [True, False, True, False]


def test_an_ignored_box_without_a_mask_beside_masks():
    rng = np.random.default_rng(1)
    crowd = InstanceData(bboxes=torch.tensor([[0., 0, 16, 16]]), labels=torch.tensor([0]))
    labels = TokenLabels.of_samples([sample(instances((32, 32), 2, rng), crowd)], (2, 2), CLASSES)
    assert labels.known[0].tolist() == [False, True, True, True]


def test_a_batch_is_its_pictures():
    rng = np.random.default_rng(2)
    samples = [sample(instances((32, 48), n, rng)) for n in (3, 1, 0)]
    together = TokenLabels.of_samples(samples, (2, 3), CLASSES)
    for b, one in enumerate(samples):
        assert torch.equal(TokenLabels.of_samples([one], (2, 3), CLASSES).targets[0], together.targets[b])
