"""What each patch of a picture shows, from its boxes or masks: the targets of auxiliary heads that look at tokens.

Shapes: B images, H x W grid of patches, N = H * W, K classes, M instances of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor


@dataclass(frozen=True)
class TokenLabels:
    """Several classes may be in one patch, or none.

    Attributes:
        targets: (B, N, K + 1) bool: which classes are in the patch; the last column says that none is.
        known: (B, N) bool: False where an ignored region (a crowd) is in the patch, so that nobody knows.
    """

    targets: Tensor
    known: Tensor

    @classmethod
    @torch.no_grad()
    def of_samples(cls, samples: Sequence[DetDataSample], grid: tuple[int, int], num_classes: int, patch: int = 16,
                   share: float = 0.1) -> TokenLabels:
        """Labels of a batch whose pictures, padded at the bottom and right, are covered by ``grid``.

        An instance is in a patch if at least ``share`` of the patch belongs to it, or of the instance to the patch: a
        large one is not in patches that it hardly touches, a small one is not lost. What belongs to an instance is its
        mask where there are masks, else its box. Padding shows no class.
        """
        true = [sample.gt_instances for sample in samples]
        ignored = [sample.get("ignored_instances", InstanceData()) for sample in samples]
        device = get_box_tensor(true[0].bboxes).device
        batch, positions = len(samples), grid[0] * grid[1]

        def marked(instances: list[InstanceData], rows: Tensor, number: int) -> Tensor:
            """(number, N) bool: which patches the instances that share a row are in."""
            inside = _inside(_overlaps([i for i in instances if len(i)], grid, patch, device), patch, share)
            return torch.zeros(number, positions, device=device).index_add(0, rows, inside.float()) > 0

        classes = torch.cat([instances.labels for instances in true])
        present = marked(true, _images(true, device) * num_classes + classes, batch * num_classes)
        present = present.view(batch, num_classes, positions).transpose(1, 2)
        unknown = marked(ignored, _images(ignored, device), batch)
        return cls(torch.cat([present, ~present.any(2, keepdim=True)], dim=2), ~unknown)


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
    """(M, H, W) pixels -> (M, N) bool, whether the instance is in the patch."""
    overlaps = overlaps.flatten(1)
    smaller = overlaps.sum(1, keepdim=True).clamp(max=patch * patch)
    return (overlaps > 0) & (overlaps >= share * smaller)
