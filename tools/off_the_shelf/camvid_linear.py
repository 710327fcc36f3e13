"""The trained CamVid segmentor of size S, a plain ViT with a linear layer at 720 x 960, scored by its mIoU.

Shapes: B images, h x w pixels of the label maps, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmseg.evaluation.metrics import IoUMetric
from network import TrainedNetwork, put_in_backbone, read_image
from PIL import Image
from torch import Tensor, nn

from mmcv_custom.cli.launch import build_model, read_config
from mmcv_custom.errors import DataError
from mmcv_custom.shipped import find_config
from mmseg_custom.heads.pixels import resize

CONFIG = "segmentation/camvid-720/vit-s_linear_ftune"


class SegmentorModel(nn.Module):
    """Backbone and head of a segmentor, up to the label of each pixel of the original image."""

    def __init__(self, segmentor: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone, self.head, self.size = segmentor.backbone, segmentor.decode_head, size

    def forward(self, images: Tensor) -> Tensor:
        """Return the labels (B, h, w)."""
        logits = self.head(self.backbone(images)).float()
        for size in (images.shape[-2:], self.size):  # as mmseg: to the input, then to the original image
            logits = resize(logits, size)
        return logits.argmax(1)


class CamVid(TrainedNetwork):
    """The linear segmentor on CamVid's test images."""

    title = "CamVid, ViT-S with a linear layer at 720 x 960"
    checkpoint = "work_dirs/vit-s_linear_ftune/epoch_20.pth"
    source = f"tools/train.py configs/{CONFIG}.py"
    # Fractions of the grid: numbers of tokens for other networks would remove nothing of 2,700.
    values = {"ToMe": (0.03, 0.05, 0.07, 0.08), "PPT": (0.1, 0.2, 0.27, 0.33), "CubistMerge": (0.1, 0.2, 0.3, 0.4)}
    score_fields = {"miou": "mIoU", "agreement": "% of pixels labelled as by the dense network"}

    def __init__(self, checkpoint: str, data: Path) -> None:
        cfg = read_config(find_config(CONFIG))
        spec = cfg.test_dataloader.dataset
        folder = data / "camvid"
        files = sorted((folder / spec.data_prefix.img_path).glob("*" + spec.img_suffix))
        if not files:
            raise DataError(
                f"{folder / spec.data_prefix.img_path} has no images: data/README.md says where they are from"
            )
        labels = [folder / spec.data_prefix.seg_map_path / f"{file.stem}.png" for file in files]
        self.labels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in labels])
        self.classes, self.size = len(spec.metainfo.classes), cfg.test_pipeline[1].scale  # (width, height)
        self.sets = {"camvid": files}
        self.model = SegmentorModel(build_model(cfg, checkpoint), tuple(self.labels.shape[1:])).eval()

    def load(self, files: Sequence[Path]) -> Tensor:
        """Return the images at 720 x 960."""
        return torch.stack(
            [read_image(file, self.size, self.mean, self.std, Image.Resampling.BILINEAR) for file in files]
        )

    def put(self, model: nn.Module, reducer: dict | None) -> None:
        """Give the backbone, which runs its blocks itself, the reducer."""
        put_in_backbone(model.backbone, reducer)

    def scores(self, outputs: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mIoU in percent, and the percentage of pixels with the dense network's label."""
        found = outputs["camvid"].to(self.labels.dtype)
        areas = IoUMetric.intersect_and_union(found, self.labels, self.classes, self.model.head.ignore_index)
        iou = IoUMetric.total_area_to_metrics(*areas)["IoU"]
        agreement = (outputs["camvid"] == dense["camvid"]).double().mean()
        return dict(miou=float(100 * np.nanmean(iou)), agreement=float(100 * agreement))
