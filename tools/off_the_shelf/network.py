"""What a trained network brings to the comparison: the model, images and scores.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from settings import Setting
from torch import Tensor, nn
from torchvision.transforms.functional import normalize, to_tensor

import token_pruning
from mmcv_custom.data.image_files import check_image
from token_pruning.reducer import build_reducer, find_method


class TrainedNetwork(ABC):
    """A trained network and the images that it is scored on.

    Attributes:
        title: of the plot.
        checkpoint: default path of the weights.
        source: the tool that makes them.
        score_fields: field of a result row -> heading; the first one is plotted.
        model: takes images (B, 3, h, w); the timm model is ``model.backbone`` or ``model`` itself, see ``put``.
        sets: name -> image files that every setting is scored on.
        mean, std: of the normalization of images in 0..1.
        values: method -> values of its cost parameter, where those of ``settings.VALUES`` do not suit the network.
        fit_sets: name -> image files that only the dense network sees, for what is fitted on its outputs.
        batch: images at once when scoring; no method's result depends on it. 1 if images differ in size.
    """

    title: ClassVar[str]
    checkpoint: ClassVar[str]
    source: ClassVar[str]
    score_fields: ClassVar[Mapping[str, str]]
    model: nn.Module
    sets: Mapping[str, Sequence[Path]]
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    values: ClassVar[Mapping[str, Sequence[float]]] = {}
    fit_sets: Mapping[str, Sequence[Path]] = {}
    batch: ClassVar[int] = 16

    @abstractmethod
    def __init__(self, checkpoint: str, data: Path) -> None:
        """Load the weights, and the labels below ``data``.

        Raises:
            DataError: the data are not there.
        """

    @abstractmethod
    def load(self, files: Sequence[Path]) -> Any:
        """Return the files as a batch for ``model``, (B, 3, h, w) or another object with ``to(device=, dtype=)``."""

    @abstractmethod
    def scores(self, outputs: Mapping[str, Any], dense: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the scores of one setting, by the names of ``score_fields``.

        Args:
            outputs: name of each of ``sets`` -> ``collect`` of what ``model`` returned for its images.
            dense: the same of the dense network, ``fit_sets`` included, as far as these are tensors.
        """

    def collect(self, outputs: Sequence[Any]) -> Any:
        """Return the outputs of all batches as one."""
        return torch.cat([output.float().cpu() for output in outputs])

    def takes(self, setting: Setting) -> bool:
        """Return whether the network has all that the method needs."""
        return True

    def under(self, setting: Setting) -> nn.Module:
        """Return the model under a setting; all of them share their weights."""
        weights = [*self.model.parameters(), *self.model.buffers()]
        model = copy.deepcopy(self.model, {id(tensor): tensor for tensor in weights})
        reducer = setting.reducer
        if reducer and find_method(setting.method).reads_image:
            reducer |= {name: [255 * n for n in getattr(self, name)] for name in ("mean", "std")}
        self.put(model, reducer)
        return model

    def put(self, model: nn.Module, reducer: dict | None) -> None:
        """Run the blocks of a copy of the model under a reducer."""
        token_pruning.apply(getattr(model, "backbone", model), reducer)


def put_in_backbone(backbone: nn.Module, reducer: dict | None) -> None:
    """Give a backbone of this project, which runs its blocks itself, a reducer."""
    backbone.reducer = build_reducer(reducer, backbone.embed_dim, backbone.depth)
    if backbone.reducer is not None:
        backbone.reducer.check_host(backbone.cls_token is not None)
        backbone.reducer.eval()


def read_image(
    file: Path,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Tensor:
    """Return an image stretched to ``size`` (w, h), normalised, (3, h, w).

    Raises:
        DataError: the file is missing or is no image.
    """
    check_image(str(file))
    image = Image.open(file).convert("RGB").resize(size, resample)
    return normalize(to_tensor(image), mean, std)
