"""Drawings of panoptic test results, with and without segments."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

import mmdet_custom  # noqa: F401 - registers


@pytest.mark.parametrize("segments", [0, 1])
def test_an_image_is_drawn_whatever_was_found(tmp_path, segments):
    visualizer = VISUALIZERS.build(dict(type="mmdet.DetLocalVisualizer", name=tmp_path.name))
    visualizer.dataset_meta = dict(classes=("cat", "grass"), palette=[(220, 20, 60), (0, 220, 0)])
    numbers = torch.full((1, 40, 60), 2)
    numbers[:, :20] = 1 if segments else 2
    sample = DetDataSample(pred_panoptic_seg=PixelData(sem_seg=numbers))
    image = np.full((40, 60, 3), 100, np.uint8)
    visualizer.add_datasample("a", image, sample, draw_gt=False, out_file=str(tmp_path / "a.png"))
    drawn = cv2.imread(str(tmp_path / "a.png"))
    assert drawn.shape == image.shape and (drawn != 100).any() == bool(segments)
