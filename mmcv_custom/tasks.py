"""The table of tasks: everything that tools and benchmarks need to know about a task is one entry of ``TASKS``.

A new task (depth estimation, say) is one entry here and one subclass of ``inference.results.Result``, which reads the
prediction, draws it and summarizes it in words.

Shapes: h x w pixels.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.structures import BaseDataElement

from .data import synthetic_labels
from .errors import ConfigError

if TYPE_CHECKING:
    from .inference.results import Result

# Data set whose palette is used, by the palette names of the published demos.
DETECTION_PALETTES = dict(coco="mmdet.CocoDataset", voc="mmdet.VOCDataset", citys="mmdet.CityscapesDataset")


def _listed(value: object) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


TOPK = ("top1", "top2", "top3", "top5", "top10")


@dataclass(frozen=True)
class Metric:
    """An evaluator of a toolbox, as ``tools/test.py --eval`` sets it.

    Attributes:
        type: registered name.
        argument: the evaluator's argument that selects what is computed; None if it always computes the same.
        choices: its values; those of ``topk`` are written "top1", "top5".
        scores: field of a result row -> name of the score that the evaluator gives; the first two are plotted.
        given: one of ``choices`` -> names of the scores that the evaluator then gives.
    """

    type: str
    argument: str | None
    choices: tuple[str, ...]
    scores: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, evaluator: Mapping) -> list[str] | None:
        """Return the names of the scores that an evaluator gives by its config; None if they are not known."""
        chosen = (self.argument and evaluator.get(self.argument)) or self.choices[0]
        chosen = [f"top{one}" if isinstance(one, int) else one for one in _listed(chosen)]
        known = str(evaluator.get("type")).split(".")[-1] == self.type and all(one in self.given for one in chosen)
        if not known or evaluator.get("prefix"):
            return None
        return list(dict.fromkeys(name for one in chosen for name in self.given[one]))


@dataclass(frozen=True)
class VisualizationArguments:
    """Names of the arguments of a toolbox's visualization hook; None where the hook has no such argument.

    Attributes:
        enable: switches drawing on.
        folder: folder that the images are written to.
        score_thr: least score of the objects that are drawn.
    """

    enable: str
    folder: str | None = None
    score_thr: str | None = None


@dataclass(frozen=True)
class Task:
    """What differs between tasks.

    Attributes:
        name: "detection".
        model: what a model of the task is called in messages ("detector").
        scope: registry scope of the toolbox (``default_scope`` of a config).
        prediction: field of the toolbox's data sample that holds the prediction.
        result: "module:class" of the subclass of ``Result``; imported by the first prediction, so that training does
            not load what draws.
        labels: from (h, w) to the labels of a synthetic image, as the annotation loading step returns them.
        load_labels: pipeline steps between those labels and the packing step.
        metric: evaluator.
        dump: evaluator that writes the predictions to a file.
        visualization: arguments of the visualization hook.
        equal_sizes: in testing, all images of a batch must have one size.
        coco_format: results can be written as COCO result files.
        caption: the summary in words is shown beside the drawing, which does not contain all of it.
        palettes: palette name -> data set that has the palette.
    """

    name: str
    model: str
    scope: str
    prediction: str
    result: str
    labels: Callable[[int, int], dict]
    metric: Metric
    dump: str
    visualization: VisualizationArguments
    load_labels: tuple[dict, ...] = ()
    equal_sizes: bool = False
    coco_format: bool = False
    caption: bool = False
    palettes: Mapping[str, str] = field(default_factory=lambda: DETECTION_PALETTES)

    @property
    def result_class(self) -> type[Result]:
        """The class of ``result``."""
        return pkgutil.resolve_name(self.result)


# What models of mmdet have in common.
MMDET: dict[str, Any] = dict(
    model="detector",
    scope="mmdet",
    load_labels=(dict(type="LoadAnnotations", with_bbox=True, with_mask=True),),
    dump="DumpDetResults",
    visualization=VisualizationArguments("draw", folder="test_out_dir", score_thr="score_thr"),
    coco_format=True,
    caption=True,
)
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="detection",
            **MMDET,
            prediction="pred_instances",
            result="mmcv_custom.inference.results:Detection",
            labels=synthetic_labels.instances,
            metric=Metric(
                "CocoMetric",
                "metric",
                ("bbox", "segm", "proposal", "proposal_fast"),
                dict(
                    box_AP="coco/bbox_mAP",
                    mask_AP="coco/segm_mAP",
                    box_AP50="coco/bbox_mAP_50",
                    mask_AP50="coco/segm_mAP_50",
                ),
                {
                    kind: tuple(f"coco/{kind}_mAP{size}" for size in ("", "_50", "_75", "_s", "_m", "_l"))
                    for kind in ("bbox", "segm")
                },
            ),
        ),
        Task(
            name="panoptic segmentation",
            **MMDET,
            prediction="pred_panoptic_seg",
            result="mmcv_custom.inference.panoptic:Panoptic",
            labels=synthetic_labels.segments,
            metric=Metric(
                "PanopticQuality",
                None,
                ("PQ",),
                dict(PQ="coco_panoptic/PQ", PQ_things="coco_panoptic/PQ_th", PQ_stuff="coco_panoptic/PQ_st"),
                dict(
                    PQ=tuple(
                        f"coco_panoptic/{name}{part}" for part in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ")
                    )
                ),
            ),
            palettes=dict(DETECTION_PALETTES, coco="mmdet.CocoPanopticDataset"),
        ),
        Task(
            name="segmentation",
            model="segmentor",
            scope="mmseg",
            prediction="pred_sem_seg",
            result="mmcv_custom.inference.results:Segmentation",
            labels=synthetic_labels.label_map,
            metric=Metric(
                "IoUMetric",
                "iou_metrics",
                ("mIoU", "mDice", "mFscore"),
                dict(mIoU="mIoU"),
                dict(
                    mIoU=("mIoU", "mAcc", "aAcc"),
                    mDice=("mDice", "mAcc", "aAcc"),
                    mFscore=("mFscore", "mPrecision", "mRecall", "aAcc"),
                ),
            ),
            dump="DumpSegResults",
            visualization=VisualizationArguments("draw"),
            equal_sizes=True,
            coco_format=True,
            palettes=dict(DETECTION_PALETTES, voc="mmseg.PascalVOCDataset", citys="mmseg.CityscapesDataset"),
        ),
        Task(
            name="classification",
            model="classifier",
            scope="mmpretrain",
            prediction="pred_score",
            result="mmcv_custom.inference.results:Classification",
            labels=synthetic_labels.class_label,
            metric=Metric(
                "Accuracy",
                "topk",
                TOPK,
                dict(top1="accuracy/top1"),
                {top: (f"accuracy/{top}",) for top in TOPK},
            ),
            dump="DumpResults",
            visualization=VisualizationArguments("enable", folder="out_dir"),
        ),
    )
}


def task_of(cfg: Config) -> Task:
    """Return the task of a config: by its toolbox, and by its evaluator where a toolbox has several tasks.

    Raises:
        ConfigError: the config's ``default_scope`` belongs to no task.
    """
    scope = cfg.get("default_scope")
    of_scope = [task for task in TASKS.values() if task.scope == scope]
    if not of_scope:
        known = ", ".join(dict.fromkeys(task.scope for task in TASKS.values()))
        raise ConfigError(f"config {cfg.filename} has default_scope {scope!r}, which has no task: known are {known}")
    evaluator = str(cfg.get("test_evaluator"))
    return next((task for task in of_scope if task.metric.type in evaluator), of_scope[0])


def task_of_sample(sample: BaseDataElement) -> Task:
    """Return the task whose prediction a data sample holds; the last in ``TASKS`` where it holds several.

    A panoptic model returns objects, too.

    Raises:
        ConfigError: it holds no known prediction.
    """
    held = [task for task in TASKS.values() if task.prediction in sample]
    if held:
        return held[-1]
    known = ", ".join(task.prediction for task in TASKS.values())
    raise ConfigError(f"a {type(sample).__name__} of the model holds no known prediction ({known})")


def model_words() -> str:
    """Return what models may be, for messages: "detector, segmentor or classifier"."""
    *others, last = dict.fromkeys(task.model for task in TASKS.values())
    return f"{', '.join(others)} or {last}"
