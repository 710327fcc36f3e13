"""The table of tasks: every config has one, and a new task is one entry and one result class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmcv_custom.errors import ConfigError
from mmcv_custom.inference import Result
from mmcv_custom.inference.results import result_of
from mmcv_custom.tasks import TASKS, Metric, model_words, task_of, task_of_sample


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_the_result_class_belongs_to_its_task(task):
    assert issubclass(task.result_class, Result) and task.result_class.task == task.name


@pytest.mark.parametrize(("scope", "name"), [("mmdet", "detection"), ("mmseg", "segmentation")])
def test_the_toolbox_of_a_config_sets_its_task(scope, name):
    assert task_of(Config(dict(default_scope=scope))).name == name


def test_an_unknown_toolbox_is_refused():
    with pytest.raises(ConfigError, match="has default_scope 'mmpose', which has no task: known are mmdet, mmseg"):
        task_of(Config(dict(default_scope="mmpose")))
    with pytest.raises(ConfigError, match="a BaseDataElement of the model holds no known prediction"):
        task_of_sample(BaseDataElement())


class Depth(Result):
    task = "depth"

    @classmethod
    def from_sample(cls, sample, **common):
        result = cls(**common, sample=sample)
        object.__setattr__(result, "depth", sample.pred_depth_map.numpy())
        return result

    def draw(self, palette=None, legend=True):
        return self.depth

    def summary(self, number=8):
        return f"{self.depth.mean():.1f} m"

    def to_coco(self, image_id=0, category_ids=None):
        return []

    def _prediction(self):
        return dict(mean=float(self.depth.mean()))


def test_a_new_task_is_one_entry(monkeypatch):
    depth = replace(
        TASKS["segmentation"],
        name="depth",
        model="depth estimator",
        prediction="pred_depth_map",
        result=f"{__name__}:Depth",
        metric=Metric("DepthMetric", "depth_metrics", ("rmse",)),
    )
    monkeypatch.setitem(TASKS, "depth", depth)
    assert task_of(Config(dict(default_scope="mmseg", test_evaluator=dict(type="DepthMetric")))) is depth
    assert task_of(Config(dict(default_scope="mmseg", test_evaluator=dict(type="IoUMetric")))).name == "segmentation"
    assert model_words() == "detector, segmentor, classifier or depth estimator"
    sample = BaseDataElement(pred_depth_map=torch.full((4, 4), 2.0))
    found = result_of(sample, image=np.zeros((4, 4, 3), np.uint8), path=None, classes=(), tokens=None)
    assert isinstance(found, Depth) and found.summary() == "2.0 m" and found.to_dict()["mean"] == 2
