"""The loss of attention-to-mask heads, which DToP uses, too ("SegViT", Zhang et al., NeurIPS 2022, section 3.3).

Shapes: B images, K classes, h x w pixels, M pairs of an image and a class that is in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from token_pruning.errors import SettingError

from .masks import mask_losses
from .targets import Targets

ABSENT = 0.1  # weight of a query whose class is not in the image


@MODELS.register_module()
class ATMLoss(nn.Module):
    """Cross entropy of "present or absent" for every query; focal and dice loss of the masks of present classes.

    Query c is responsible for class c, so that there is no matching.

    Args:
        cls_weight, mask_weight, dice_weight: weights of the three terms.
        loss_weight: factor of all terms.
        ignored: whether pixels without a label are "negative" for every mask, as published, or "left_out".

    Raises:
        SettingError: ``ignored`` has another value.
    """

    def __init__(
        self,
        cls_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        loss_weight: float = 1.0,
        ignored: str = "negative",
    ) -> None:
        super().__init__()
        if ignored not in ("negative", "left_out"):
            raise SettingError(f"ignored is {ignored!r}; choose 'negative' or 'left_out'")
        self.ignored = ignored
        self.weights = {
            name: loss_weight * weight
            for name, weight in dict(loss_ce=cls_weight, loss_mask=mask_weight, loss_dice=dice_weight).items()
        }

    def forward(
        self, class_logits: Tensor, masks: Tensor, targets: Targets, resize: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted losses of a batch.

        Args:
            class_logits: (B, K, 2), present and absent; or (B, K, K + 1), where the target of query c is c, or K if the
                class is absent.
            masks: (B, K, H, W) logits on any grid.
            targets: of the batch.
            resize: resamples (M, 1, H, W) to the pixels of the labels; bilinear by default.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice``.
        """
        image, wanted = targets.pairs.unbind(1)
        masks = masks[image, wanted].float()[:, None]
        if resize is None:
            # torch does not resample an empty batch.
            masks = F.interpolate(masks, targets.labels.shape[-2:], mode="bilinear") if len(masks) else masks
        else:
            masks = resize(masks)
        terms = dict(
            loss_ce=_presence(class_logits.float(), targets.present),
            loss_mask=0 * masks.sum(),
            loss_dice=0 * masks.sum(),
        )
        if len(masks):
            ignore = targets.ignore_index if self.ignored == "left_out" else None
            focal, dice = mask_losses(masks[:, 0], targets.labels, image, wanted, ignore)
            terms["loss_mask"], terms["loss_dice"] = focal.sum() / targets.number, dice.sum() / targets.number
        return {name: self.weights[name] * term for name, term in terms.items()}


def _presence(logits: Tensor, present: Tensor) -> Tensor:
    absent = logits.shape[-1] - 1
    here = (
        torch.zeros_like(present, dtype=torch.int64)
        if absent == 1
        else torch.arange(present.shape[1], device=present.device).expand_as(present)
    )
    weight = logits.new_ones(absent + 1)
    weight[-1] = ABSENT
    return F.cross_entropy(logits.transpose(1, 2), torch.where(present, here, absent), weight)
