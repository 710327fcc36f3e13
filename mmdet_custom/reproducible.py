"""Detector components whose result does not depend on how a batch is split over processes.

mmdet samples RoIs from each process's generator and averages the mask loss over each process's own positives. With
these two components, n processes with b images each train like one process with n * b images.
"""

from __future__ import annotations

import zlib

import torch
import torch.distributed as dist
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import Tensor


@TASK_UTILS.register_module()
class SeededSampler(RandomSampler):
    """mmdet's random sampler, seeded for each image by the iteration and the image's boxes."""

    def sample(
        self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> SamplingResult:
        """Seed the generator for this image, then sample as mmdet does."""
        iteration = MessageHub.get_current_instance().get_info("iter", 0)
        boxes = torch.as_tensor(gt_instances.bboxes).cpu().numpy().tobytes()
        # Hashed to 32 bits: torch's CPU generator uses no more bits of its seed.
        self.generator = torch.Generator().manual_seed(zlib.crc32(boxes, iteration))
        return super().sample(assign_result, pred_instances, gt_instances, **kwargs)

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """Draw ``num`` of the indices ``gallery`` (n,) without replacement."""
        chosen = torch.randperm(len(gallery), generator=self.generator)[:num]
        return gallery[chosen.to(gallery.device)]


@MODELS.register_module()
class GlobalMeanMaskHead(FCNMaskHead):
    """FCN mask head whose loss is the mean over the positives of all processes."""

    def loss_and_target(self, mask_preds: Tensor, *args, **kwargs) -> dict:
        """Return mmdet's result for the ``mask_preds`` (n, classes, h, w) of this process, with the loss rescaled."""
        result = super().loss_and_target(mask_preds, *args, **kwargs)
        if dist.is_available() and dist.is_initialized():
            positives = mask_preds.new_tensor([len(mask_preds)])
            total = positives.clone()
            dist.all_reduce(total)
            # Data-parallel training averages over processes, so weight each by its share of the positives.
            share = positives * dist.get_world_size() / total.clamp(min=1)
            result["loss_mask"]["loss_mask"] = result["loss_mask"]["loss_mask"] * share[0]
        return result
