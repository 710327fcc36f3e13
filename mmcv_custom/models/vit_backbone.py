"""Base class of the ViT backbones of all tasks: padding, cropping, loading a published ViT.

Shapes: B images, h x w pixels, C channels.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor

from token_pruning import PlainViT
from token_pruning.errors import SettingError
from token_pruning.option_types import check_option_types

from ..checkpoint.load import load_into
from ..errors import CheckpointError

TIMM = "timm"
# Options that former versions had -> what to write instead.
REMOVED = {
    "family": "set model_name to the name of timm's model, such as 'eva02_base_patch14_224.mim_in22k' for EVA-02, or "
    "leave it out for a plain ViT",
}


class HostViT(PlainViT, BaseModule):
    """Base of the backbones, a plain ViT that OpenMMLab builds from a config.

    Args:
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=FILE)`` with a DeiT, timm, DINOv2, DINOv3,
            mmsegmentation, iBOT, ViT-Adapter or SViT file in its published key schema. ``averaged=False`` takes the raw
            weights of a file that holds averaged ones (``state_dict_ema``, a teacher) beside them.
            ``checkpoint='timm'`` takes the weights that timm has for ``model_name``, from its hub or cache.
        frozen: keep the loaded weights of the ViT: its parts, final norm included, are not trained and stay in
            evaluation mode. What a subclass adds, and the reducer, learn.
        trunk: arguments of ``PlainViT``.

    Attributes:
        strides: strides of the maps that a subclass outputs, one each.
        channels_last: whether the inputs of convolutions and the outputs are in channels-last layout, else they are
            contiguous; None: on the CPU, where convolutions and resizing are up to four times faster so.
    """

    strides: Sequence[int]
    channels_last: bool | None = None

    def __init__(self, init_cfg: dict | None = None, frozen: bool = False, **trunk) -> None:
        _check_trunk(type(self).__name__, trunk)
        super().__init__(**trunk)
        self.init_cfg, self.frozen = init_cfg, frozen
        self._trunk = [name for name, _ in self.named_children() if name != "reducer"]
        if frozen:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith("reducer."))

    def train(self, mode: bool = True):
        super().train(mode)
        for name in self._trunk if mode and self.frozen else ():
            getattr(self, name).eval()
        return self

    def pad(self, image: Tensor) -> Tensor:
        """Pad images (B, 3, h, w) with zeros at the bottom and right to multiples of every stride.

        Zero is the mean colour after normalisation. The result has the layout of ``lay_out``.
        """
        cell = math.lcm(*self.strides)
        down, right = -image.shape[-2] % cell, -image.shape[-1] % cell
        return self.lay_out(F.pad(image, (0, right, 0, down)) if down or right else image)

    def lay_out(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, h, w) in the memory layout for the convolutions, see ``channels_last``."""
        last = maps.device.type == "cpu" if self.channels_last is None else self.channels_last
        return maps.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def crop(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Crop maps (B, C, ., .), one of each stride, to the area that an image of ``size`` (h, w) covers.

        The result has the layout of ``lay_out``.
        """
        return [
            self.lay_out(m[..., : -(-size[0] // s), : -(-size[1] // s)])
            for m, s in zip(maps, self.strides, strict=True)
        ]

    def init_weights(self) -> None:
        """Load the file of ``init_cfg``, if there is one; the constructor has initialised everything else.

        Raises:
            SettingError: ``init_cfg`` is anything else.
            CheckpointError: the weights cannot be fetched or read, or are of another model.
        """
        if self.init_cfg is None:
            return
        if self.init_cfg.get("type") != "Pretrained" or "checkpoint" not in self.init_cfg:
            raise SettingError(
                f"init_cfg {dict(self.init_cfg)} of a ViT backbone must be None or "
                "dict(type='Pretrained', checkpoint=FILE)"
            )
        checkpoint, logger = self.init_cfg["checkpoint"], MMLogger.get_current_instance()
        if checkpoint == TIMM:
            load_into(self, self._timm_weights(), logger=logger, source=f"timm's {self.model_name}")
        else:
            load_into(self, checkpoint, logger=logger, averaged=self.init_cfg.get("averaged", True))

    def _timm_weights(self) -> dict[str, Tensor]:
        """Return timm's weights of ``model_name``, at the size at which timm has them."""
        if self.model_name is None:
            raise SettingError("checkpoint 'timm' needs a model_name: set it in the backbone, or give a file")
        if not timm.is_model_pretrained(self.model_name):
            raise SettingError(
                f"timm has no weights for {self.model_name!r}: add a tag that timm.list_pretrained() shows, or give a "
                "file"
            )
        try:
            return timm.create_model(self.model_name, pretrained=True, num_classes=0).state_dict()
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"timm could not fetch the weights of {self.model_name!r} ({str(error).splitlines()[0]}): place the "
                "file under pretrained/ and set init_cfg.checkpoint to it"
            ) from error


def _check_trunk(name: str, options: dict) -> None:
    """Raise SettingError for an option that ``PlainViT`` does not have, or of another type."""
    known = [*inspect.signature(PlainViT).parameters]
    for option in options:
        if option in REMOVED:
            raise SettingError(f"{name} has no option {option} any more: {REMOVED[option]}")
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
            raise SettingError(f"{name} has no option {option!r}: {hint}")
    check_option_types(PlainViT, options, name)
