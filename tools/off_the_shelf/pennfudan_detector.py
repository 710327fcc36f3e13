"""The trained Penn-Fudan detector of size T, a Mask R-CNN on a ViT-Adapter, scored by its box and mask AP.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from network import TrainedNetwork, put_in_backbone
from settings import Setting
from torch import Tensor, nn

from mmcv_custom.cli.launch import build_model, read_config
from mmcv_custom.data.coco_file import read_coco
from mmcv_custom.data.image_files import check_image, pipeline_steps
from mmcv_custom.shipped import find_config
from token_pruning.reducer import build_reducer

CONFIG = "quickstart/pennfudan_vit-adapter-t_ftune"
SCORES = {"box_AP": "bbox_mAP", "box_AP50": "bbox_mAP_50", "mask_AP": "segm_mAP"}  # field -> mmdet's name


@dataclass(frozen=True)
class Photographs:
    """Images (B, 3, h, w) as the detector's preprocessor pads them, and what mmdet has to know of each."""

    images: Tensor
    samples: Sequence[DetDataSample]

    def to(self, **kind) -> Photographs:
        """Return the same on another device or of another type."""
        return replace(self, images=self.images.to(**kind))


class DetectorModel(nn.Module):
    """The detector with its post-processing: boxes and masks of the original images."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Photographs) -> list[DetDataSample]:
        """Return the detections of each image."""
        samples = [DetDataSample(metainfo=sample.metainfo) for sample in batch.samples]
        return self.detector.predict(batch.images, samples)


class PennFudan(TrainedNetwork):
    """The dense detector of size T on the validation images of Penn-Fudan."""

    title = "Penn-Fudan, Mask R-CNN on a ViT-Adapter-T at 800 pixels"
    checkpoint = "work_dirs/pennfudan_vit-adapter-t_ftune/epoch_2.pth"
    source = f"tools/train.py configs/quickstart/pennfudan_vit-adapter-t.py, then configs/{CONFIG}.py,"
    # About 3,000 tokens; APT's thresholds are those of other networks, in bits.
    values = {"ToMe": (80, 120, 160, 200), "CubistMerge": (0.1, 0.2, 0.3, 0.4)}
    score_fields = {"box_AP": "box AP", "box_AP50": "box AP50", "mask_AP": "mask AP"}
    batch = 1  # images differ in size, and padding is no part of the comparison

    def __init__(self, checkpoint: str, data: Path) -> None:
        cfg = read_config(find_config(CONFIG))
        spec, folder = cfg.test_dataloader.dataset, data / "pennfudan"
        annotations = folder / spec.ann_file
        items = sorted(read_coco(annotations)["images"], key=lambda image: image["id"])
        self.ids = {folder / spec.data_prefix.img / image["file_name"]: image["id"] for image in items}
        self.sets = {"pennfudan": list(self.ids)}
        self.model = DetectorModel(build_model(cfg, checkpoint)).eval()
        self.pipeline = Compose(pipeline_steps(cfg))
        self.metric = METRICS.build({**cfg.test_evaluator, "ann_file": str(annotations)})
        self.metric.dataset_meta = spec.metainfo

    def load(self, files: Sequence[Path]) -> Photographs:
        """Return the images through the config's test pipeline and the detector's preprocessor."""
        for file in files:
            check_image(str(file))
        packed = [self.pipeline(dict(img_path=str(file), img_id=self.ids[file])) for file in files]
        data = self.model.detector.data_preprocessor(pseudo_collate(packed))
        return Photographs(data["inputs"], data["data_samples"])

    def takes(self, setting: Setting) -> bool:
        """Return whether the method does without a class token, which the backbone has not."""
        backbone = self.model.detector.backbone
        reducer = build_reducer(setting.reducer, backbone.embed_dim, backbone.depth)
        return reducer is None or not reducer.needs_class_token

    def put(self, model: nn.Module, reducer: dict | None) -> None:
        """Give the backbone, which runs its blocks itself, the reducer."""
        put_in_backbone(model.detector.backbone, reducer)

    def collect(self, outputs: Sequence[list[DetDataSample]]) -> list[DetDataSample]:
        """Return the detections of all images."""
        return [sample for batch in outputs for sample in batch]

    def scores(self, outputs: Mapping[str, list[DetDataSample]], dense: Mapping[str, Tensor]) -> dict[str, float]:
        """Return COCO's box and mask AP, from 0 to 1."""
        found = outputs["pennfudan"]
        self.metric.process({}, [sample.to_dict() for sample in found])
        scores = self.metric.evaluate(len(found))
        return {field: scores[f"{self.metric.prefix}/{name}"] for field, name in SCORES.items()}
