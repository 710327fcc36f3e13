"""Panoptic quality against values computed by hand, and its files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmcv_custom import DataError
from mmcv_custom.tasks import TASKS
from mmdet_custom.evaluation.panoptic import VOID, PanopticQuality, Segment, matched, quality
from mmdet_custom.panoptic_maps import colours_of, ids_of, read_ids

NOBODY, CLASSES = 2, 2  # the class of pixels without a prediction


def row(*runs):
    """Return a map of one row from (value, number of pixels)."""
    return np.concatenate([np.full(n, value) for value, n in runs])[None]


def thing(label, number):
    return label + 1000 * number


def test_hits_false_positives_and_misses():
    labels = row((5, 10), (6, 10), (7, 10))
    segments = [Segment(5, 0), Segment(6, 0), Segment(7, 1)]
    # 8 of 10 pixels right (IoU 8 / 10); 6 of 10 and 4 too many (6 / 14, no match); the third class is wrong.
    predicted = row((thing(0, 1), 8), (NOBODY, 2), (thing(0, 2), 6), (NOBODY, 4), (thing(0, 2), 4), (NOBODY, 6))
    assert matched(predicted, labels, segments, CLASSES) == pytest.approx(np.array([[0.8, 1, 1, 1], [0, 0, 0, 1]]))


def test_exactly_half_is_no_match():
    assert matched(row((0, 5), (NOBODY, 5)), row((5, 10)), [Segment(5, 0)], 1).tolist() == [[0, 0, 1, 1]]


def test_unlabelled_pixels_do_not_count():
    labels, segments = row((5, 10), (VOID, 20)), [Segment(5, 0)]
    # Of a hit, they are not in the union: 9 / 10 and not 9 / 14.
    assert matched(row((0, 9), (NOBODY, 1), (0, 4), (NOBODY, 16)), labels, segments, 1).tolist() == [[0.9, 1, 0, 0]]
    # A prediction of which more than half is unlabelled is no false positive; of which half is, it is one.
    predicted = row((NOBODY, 8), (thing(0, 1), 5), (thing(0, 2), 4), (NOBODY, 13))
    assert matched(predicted, labels, segments, 1).tolist() == [[0, 0, 0, 1]]
    predicted = row((NOBODY, 8), (thing(0, 1), 4), (NOBODY, 18))
    assert matched(predicted, labels, segments, 1).tolist() == [[0, 0, 1, 1]]


def test_crowds_match_nothing_and_excuse_their_class_only():
    labels, segments = row((5, 10), (6, 10)), [Segment(5, 0, crowd=True), Segment(6, 1)]
    right = row((thing(0, 1), 9), (NOBODY, 1), (1, 10))
    assert matched(right, labels, segments, CLASSES).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0]]
    wrong = row((1, 9), (NOBODY, 1), (NOBODY, 10))
    assert matched(wrong, labels, segments, CLASSES).tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]


def test_quality_is_the_mean_of_the_classes_that_occur():
    counts = np.array([[1.6, 2, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    # PQ 1.6 / 3 and 0, SQ 0.8 and 0, RQ 2 / 3 and 0; the third class does not count.
    assert quality(counts) == pytest.approx(dict(PQ=160 / 6, SQ=40, RQ=200 / 6))
    assert quality(counts[2:]) == dict(PQ=0, SQ=0, RQ=0)


def test_ids_of_colours():
    ids = np.array([[0, 255, 256], [65535, 65536, 2**24 - 1]])
    assert np.array_equal(ids_of(colours_of(ids)), ids)
    assert colours_of(np.array([[65536 + 2 * 256 + 3]])).tolist() == [[[3, 2, 1]]]


def written(folder, segments, labels):
    Image.fromarray(colours_of(labels)).save(folder / "a.png")
    categories = [dict(id=7, name="digit", isthing=1), dict(id=3, name="background", isthing=0)]
    record = dict(annotations=[dict(image_id=1, file_name="a.png", segments_info=segments)], categories=categories)
    (folder / "a.json").write_text(json.dumps(record))
    metric = PanopticQuality(str(folder / "a.json"), str(folder), classwise=True)
    metric.dataset_meta = dict(classes=("digit", "background"), thing_classes=("digit",))
    return metric


def sample(predicted, image=1):
    return dict(img_id=image, pred_panoptic_seg=dict(sem_seg=torch.from_numpy(predicted)[None]))


def test_the_metric_reads_files_and_reports_things_and_stuff(tmp_path):
    segments = [dict(id=300, category_id=7), dict(id=70000, category_id=3)]
    metric = written(tmp_path, segments, row((300, 10), (70000, 10)))
    metric.process(None, [sample(row((thing(0, 1), 9), (NOBODY, 1), (1, 10)))])
    found = metric.evaluate(1)
    assert found["coco_panoptic/PQ"] == pytest.approx(95)
    assert found["coco_panoptic/PQ_th"] == found["coco_panoptic/PQ_digit"] == pytest.approx(90)
    assert found["coco_panoptic/SQ_st"] == found["coco_panoptic/RQ_st"] == 100
    known = TASKS["panoptic segmentation"].metric.names(dict(type="PanopticQuality"))
    assert {*known, "coco_panoptic/PQ_digit", "coco_panoptic/PQ_background"} == found.keys()


def test_what_does_not_fit_is_one_sentence(tmp_path):
    labels = row((300, 10), (400, 10))
    metric = written(tmp_path, [dict(id=300, category_id=7)], labels)
    with pytest.raises(DataError, match="id 400 is in the map of segments and not in the annotation file"):
        metric.process(None, [sample(labels * 0)])
    with pytest.raises(DataError, match="image 9 has no segments"):
        metric.process(None, [sample(labels, image=9)])
    with pytest.raises(DataError, match=r"a prediction of \(1, 3\) pixels does not fit labels of \(1, 20\)"):
        metric.process(None, [sample(labels[:, :3])])
    with pytest.raises(DataError, match="has segments of category 5"):
        written(tmp_path, [dict(id=300, category_id=5)], labels).process(None, [sample(labels)])
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="holds no panoptic labels"):
        metric = PanopticQuality(str(tmp_path / "a.json"), str(tmp_path))
        metric.dataset_meta = dict(classes=())
        metric.process(None, [sample(labels)])
    with pytest.raises(DataError, match="cannot be read"):
        read_ids(tmp_path / "none.png")
