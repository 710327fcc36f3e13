"""Loading of label maps, with clear errors for those that do not fit, and dumps of predictions."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from mmcv_custom import DataError
from mmseg_custom import DumpSegResults, LoadAnnotations


def load(path, labels=None, shape=(6, 8), reduce_zero_label=False, classes=3, **loader):
    if labels is not None:
        Image.fromarray(np.asarray(labels)).save(path)
    results = dict(seg_map_path=str(path), ori_shape=shape, seg_fields=[], reduce_zero_label=reduce_zero_label)
    return LoadAnnotations(num_classes=classes, **loader).transform(results)["gt_seg_map"]


def a_map(*labels):
    found = np.zeros((6, 8), np.uint8)
    found[0, : len(labels)] = labels
    return found


def test_what_fits_passes(tmp_path):
    assert np.array_equal(load(tmp_path / "a.png", a_map(2, 255)), a_map(2, 255))
    reduced = load(tmp_path / "b.png", a_map(3, 1), reduce_zero_label=True)
    assert reduced[0, :3].tolist() == [2, 0, 255]


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1)])
def test_maps_one_pixel_high_or_wide_keep_their_shape(tmp_path, shape):
    assert load(tmp_path / "a.png", np.full(shape, 2, np.uint8), shape).shape == shape


def test_labels_can_be_merged_and_what_is_left_is_checked(tmp_path):
    merged = load(tmp_path / "a.png", a_map(2, 1, 255), merge=[0, 1, 1], classes=2)
    assert merged[0, :4].tolist() == [1, 1, 255, 0]
    with pytest.raises(DataError, match="has label 3 and there are 2 classes"):
        load(tmp_path / "b.png", a_map(2, 3), merge=[0, 1, 1], classes=2)


@pytest.mark.parametrize(
    "labels, more, message",
    [
        (a_map(2, 3, 7), {}, "a.png has label 3, 7 and there are 3 classes, labels 0 to 2"),
        (a_map(4), dict(reduce_zero_label=True), "a.png has label 3 "),
        (a_map(0), dict(shape=(8, 6)), "a.png is 6 x 8 and its image 8 x 6"),
        (np.zeros((6, 8, 3), np.uint8), {}, "a.png is a colour image"),
        (None, {}, "a.png does not exist"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, labels, more, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.png", labels, **more)


def test_a_broken_file_is_one_sentence(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="a.png cannot be read"):
        load(tmp_path / "a.png")


def test_dump_holds_the_label_maps_and_no_logits(tmp_path):
    dump = DumpSegResults(out_file_path=str(tmp_path / "a.pkl"))
    labels = torch.randint(0, 150, (1, 40, 50))
    sample = dict(
        img_path="a.jpg",
        pred_sem_seg=dict(data=labels),
        gt_sem_seg=dict(data=labels),
        seg_logits=dict(data=torch.zeros(150, 40, 50)),
    )
    dump.process({}, [sample])
    dump.evaluate(1)
    (found,) = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert set(found) == {"img_path", "pred_sem_seg"} and found["img_path"] == "a.jpg"
    assert found["pred_sem_seg"]["data"].dtype == torch.uint8
    assert torch.equal(found["pred_sem_seg"]["data"].long(), labels)
    assert (tmp_path / "a.pkl").stat().st_size < 10_000 and "seg_logits" in sample


def test_configs_may_hold_the_former_names():
    from mmcv.transforms import TRANSFORMS as COMMON
    from mmseg.registry import TRANSFORMS

    from mmcv_custom import LoadImageFromFile

    assert TRANSFORMS.get("LoadSegAnnotations") is TRANSFORMS.get("LoadAnnotations") is LoadAnnotations
    assert COMMON.get("LoadImage") is COMMON.get("LoadImageFromFile") is LoadImageFromFile
