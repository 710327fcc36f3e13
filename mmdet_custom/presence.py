"""Which classes an image shows, and each of its patches: what auxiliary heads learn in detectors.

Shapes: B images, H x W grid of patches, N = H * W, K classes, M instances of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from token_pruning.auxiliary import AuxOutput, Criterion, presence_labels


def presence_criterion(samples: Sequence[DetDataSample], classes: int, patch: int) -> Criterion:
    """Heads of one query learn which of the ``classes`` are in the image, heads of one for each token which are in
    its patch of ``patch`` pixels. Labels are made once for all heads."""

    @cache
    def criterion_of(grid: tuple[int, int] | None) -> Criterion:
        return (
            presence_labels(in_images(samples, classes))
            if grid is None
            else presence_labels(*in_patches(samples, grid, classes, patch))
        )

    def criterion(output: AuxOutput) -> Tensor:
        return criterion_of(None if output.queries == 1 else output.grid)(output)

    return criterion


@torch.no_grad()
def in_images(samples: Sequence[DetDataSample], classes: int) -> Tensor:
    """(B, K) bool: which classes occur in each image. A crowd, ignored otherwise, shows its class, too."""
    shown = [
        torch.cat([sample.gt_instances.labels, _ignored(sample).get("labels", sample.gt_instances.labels[:0])])
        for sample in samples
    ]
    return torch.stack([torch.bincount(labels, minlength=classes) > 0 for labels in shown])


@torch.no_grad()
def in_patches(
    samples: Sequence[DetDataSample], grid: tuple[int, int], classes: int, patch: int = 16, share: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Labels of a batch whose images, padded at the bottom and right, are covered by ``grid``.

    An instance is in a patch if at least ``share`` of the patch belongs to it, or of the instance to the patch: a
    large one is not in patches that it hardly touches, a small one is not lost. What belongs to an instance is its
    mask where there are masks, else its box. Several classes may be in one patch; padding shows none.

    Returns:
        (B, H, W, K) bool, which classes are in each patch; (B, H, W) bool, False where an ignored region (a crowd) is,
        so that nobody knows.
    """
    true, ignored = [sample.gt_instances for sample in samples], [_ignored(sample) for sample in samples]
    device = get_box_tensor(true[0].bboxes).device

    def marked(instances: list[InstanceData], rows: Tensor, number: int) -> Tensor:
        """(number, H, W) bool: which patches the instances that share a row are in."""
        inside = _inside(_overlaps([i for i in instances if len(i)], grid, patch, device), patch, share)
        return torch.zeros(number, *grid, device=device).index_add(0, rows, inside.float()) > 0

    labels = torch.cat([instances.labels for instances in true])
    present = marked(true, _images(true, device) * classes + labels, len(samples) * classes)
    unknown = marked(ignored, _images(ignored, device), len(samples))
    return present.unflatten(0, (-1, classes)).permute(0, 2, 3, 1), ~unknown


def _ignored(sample: DetDataSample) -> InstanceData:
    return sample.get("ignored_instances", InstanceData())


def _images(instances: list[InstanceData], device: torch.device) -> Tensor:
    """(M,) the image of each instance."""
    counts = torch.tensor([len(i) for i in instances], device=device)
    return torch.arange(len(instances), device=device).repeat_interleave(counts)


def _overlaps(instances: list[InstanceData], grid: tuple[int, int], patch: int, device: torch.device) -> Tensor:
    """(M, H, W) pixels that each instance has in each patch."""
    if not instances:
        return torch.zeros(0, *grid, device=device)
    if all("masks" in i for i in instances):
        masks = (i.masks.to_tensor(torch.uint8, device) for i in instances)
        return torch.cat([_patch_sums(m, grid, patch) for m in masks]).float()
    boxes = torch.cat([get_box_tensor(i.bboxes) for i in instances]).float()

    def along(low: Tensor, high: Tensor, cells: int) -> Tensor:
        """(M, cells) how much of each interval lies in each cell."""
        edges = torch.arange(cells + 1, device=device) * patch
        return (high[:, None].minimum(edges[1:]) - low[:, None].maximum(edges[:-1])).clamp(min=0)

    x1, y1, x2, y2 = boxes.unbind(1)
    return along(y1, y2, grid[0])[:, :, None] * along(x1, x2, grid[1])[:, None, :]


def _patch_sums(masks: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """(m, h, w) of any size -> (m, H, W), zero beyond it."""
    height, width = grid[0] * patch, grid[1] * patch
    masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
    # The type matters on CPU, where the masks are copied to it.
    return masks.unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).sum((2, 4), dtype=torch.int32)


def _inside(overlaps: Tensor, patch: int, share: float) -> Tensor:
    """(M, H, W) pixels -> bool, whether the instance is in the patch."""
    smaller = overlaps.sum((1, 2), keepdim=True).clamp(max=patch * patch)
    return (overlaps > 0) & (overlaps >= share * smaller)
