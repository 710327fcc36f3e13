"""The targets of auxiliary heads in detectors: the classes present in an image or in each of its patches.

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
    """Return the loss of auxiliary heads on the presence of ``classes`` classes.

    Heads with one query learn which classes are in the image; heads with one query per token learn which are in the
    token's patch of ``patch`` x ``patch`` pixels. The labels are computed once for all heads.
    """

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
    """Return which classes are in each image, (B, K) bool; ignored crowd regions count, too."""
    shown = [
        torch.cat([sample.gt_instances.labels, _ignored(sample).get("labels", sample.gt_instances.labels[:0])])
        for sample in samples
    ]
    return torch.stack([torch.bincount(labels, minlength=classes) > 0 for labels in shown])


@torch.no_grad()
def in_patches(
    samples: Sequence[DetDataSample], grid: tuple[int, int], classes: int, patch: int = 16, share: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Return which classes are in each patch of a batch whose images, padded at the bottom and right, fill ``grid``.

    An instance is in a patch if it covers at least ``share`` of the patch, or if at least ``share`` of the instance is
    in the patch. So a large instance is not in patches that it barely touches, and a small one is not lost. Its area is
    its mask if there are masks, else its box. Several classes may be in one patch; padding has none.

    Returns:
        (B, H, W, K) bool, which classes are in each patch; (B, H, W) bool, False at patches of an ignored region (a
        crowd), where the classes are unknown.
    """
    true, ignored = [sample.gt_instances for sample in samples], [_ignored(sample) for sample in samples]
    device = get_box_tensor(true[0].bboxes).device

    def marked(instances: list[InstanceData], rows: Tensor, number: int) -> Tensor:
        """Return the patches (number, H, W) bool that contain any instance of each row."""
        inside = _inside(_overlaps([i for i in instances if len(i)], grid, patch, device), patch, share)
        return torch.zeros(number, *grid, device=device).index_add(0, rows, inside.float()) > 0

    labels = torch.cat([instances.labels for instances in true])
    present = marked(true, _images(true, device) * classes + labels, len(samples) * classes)
    unknown = marked(ignored, _images(ignored, device), len(samples))
    return present.unflatten(0, (-1, classes)).permute(0, 2, 3, 1), ~unknown


def _ignored(sample: DetDataSample) -> InstanceData:
    return sample.get("ignored_instances", InstanceData())


def _images(instances: list[InstanceData], device: torch.device) -> Tensor:
    """Return the image of each instance, (M,)."""
    counts = torch.tensor([len(i) for i in instances], device=device)
    return torch.arange(len(instances), device=device).repeat_interleave(counts)


def _overlaps(instances: list[InstanceData], grid: tuple[int, int], patch: int, device: torch.device) -> Tensor:
    """Return the pixels of each instance in each patch, (M, H, W)."""
    if not instances:
        return torch.zeros(0, *grid, device=device)
    if all("masks" in i for i in instances):
        masks = (i.masks.to_tensor(torch.uint8, device) for i in instances)
        return torch.cat([_patch_sums(m, grid, patch) for m in masks]).float()
    boxes = torch.cat([get_box_tensor(i.bboxes) for i in instances]).float()

    def along(low: Tensor, high: Tensor, cells: int) -> Tensor:
        """Return the length of each interval inside each cell, (M, cells)."""
        edges = torch.arange(cells + 1, device=device) * patch
        return (high[:, None].minimum(edges[1:]) - low[:, None].maximum(edges[:-1])).clamp(min=0)

    x1, y1, x2, y2 = boxes.unbind(1)
    return along(y1, y2, grid[0])[:, :, None] * along(x1, x2, grid[1])[:, None, :]


def _patch_sums(masks: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Sum masks (m, h, w) over each patch, (m, H, W); outside the masks the sum is zero."""
    height, width = grid[0] * patch, grid[1] * patch
    masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
    # On CPU the masks are converted to this type, so a small one is faster.
    return masks.unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).sum((2, 4), dtype=torch.int32)


def _inside(overlaps: Tensor, patch: int, share: float) -> Tensor:
    """Return whether an instance is in a patch, (M, H, W) bool, from its pixels there."""
    smaller = overlaps.sum((1, 2), keepdim=True).clamp(max=patch * patch)
    return (overlaps > 0) & (overlaps >= share * smaller)
