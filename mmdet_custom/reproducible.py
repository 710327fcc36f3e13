"""Parts of a detector whose result does not depend on how a batch is split over processes.

mmdet draws RoIs from each process's generator and averages the mask loss over each process's own positives. With these
two, n processes with b images each train as one process with n * b.
"""

from __future__ import annotations

import zlib

import torch
import torch.distributed as dist
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.logging import MessageHub
from torch import Tensor


@TASK_UTILS.register_module()
class SeededSampler(RandomSampler):
    """mmdet's random sampler, seeded for each image by the iteration and the image's own boxes."""

    def sample(self, assign_result, pred_instances, gt_instances, **kwargs) -> SamplingResult:
        iteration = MessageHub.get_current_instance().get_info("iter", 0)
        boxes = torch.as_tensor(gt_instances.bboxes).cpu().numpy().tobytes()
        # Mixed into one 32-bit number: torch's generator looks at no more of its seed.
        self.generator = torch.Generator().manual_seed(zlib.crc32(boxes, iteration))
        return super().sample(assign_result, pred_instances, gt_instances, **kwargs)

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """``num`` of the indices ``gallery`` (n,), without replacement."""
        chosen = torch.randperm(len(gallery), generator=self.generator)[:num]
        return gallery[chosen.to(gallery.device)]


@MODELS.register_module()
class GlobalMeanMaskHead(FCNMaskHead):
    """FCN mask head whose loss is the mean over the positives of all processes, not of each process alone."""

    def loss_and_target(self, mask_preds: Tensor, *args, **kwargs) -> dict:
        """mask_preds (n, classes, h, w) of this process's n positives; arguments and result as in mmdet."""
        result = super().loss_and_target(mask_preds, *args, **kwargs)
        if dist.is_available() and dist.is_initialized():
            positives = mask_preds.new_tensor([len(mask_preds)])
            total = positives.clone()
            dist.all_reduce(total)
            # Data parallel training averages over processes: weigh each by its share of the positives.
            share = positives * dist.get_world_size() / total.clamp(min=1)
            result["loss_mask"]["loss_mask"] = result["loss_mask"]["loss_mask"] * share[0]
        return result
