"""Batches whose images have no common size.

Shapes: images (3, h, w).
"""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmcv_custom import DataError
from mmseg_custom import SegPreprocessor


def a_batch(*sizes):
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *size))) for size in sizes]
    return dict(inputs=[torch.zeros(3, *size) for size in sizes], data_samples=samples)


def test_smaller_ones_are_padded_in_training():
    data = SegPreprocessor(size=(16, 16))(a_batch((16, 16), (1, 5), (16, 9)), True)
    assert data["inputs"].shape == (3, 3, 16, 16)
    labels = data["data_samples"][1].gt_sem_seg.data
    assert labels.shape == (1, 16, 16) and (labels != 255).sum() == 5
    assert SegPreprocessor(size=(16, 16))(a_batch((20, 20), (20, 20)), True)["inputs"].shape == (2, 3, 20, 20)


@pytest.mark.parametrize(
    "sizes, training, sentence",
    [
        (
            [(16, 16), (20, 16)],
            True,
            r"sizes \[\(16, 16\), \(20, 16\)\], and not all fit into .* size \(16, 16\): crop",
        ),
        ([(16, 16), (8, 8)], False, r"sizes \[\(8, 8\), \(16, 16\)\]: test with batch_size=1, or resize"),
    ],
)
def test_what_has_no_common_size_is_one_sentence(sizes, training, sentence):
    with pytest.raises(DataError, match=sentence):
        SegPreprocessor(size=(16, 16))(a_batch(*sizes), training)
