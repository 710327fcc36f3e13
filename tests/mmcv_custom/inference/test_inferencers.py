"""The inferencers of mmdet, mmseg and mmpretrain on configs of this project: the numbers of ``Predictor``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmcv_custom import DataError, Predictor
from mmcv_custom.data.synthetic import scene

ROOT = Path(__file__).resolve().parents[3]
DETECTOR = str(ROOT / "configs/quickstart/digits_svit-adapter-nano.py")
SEGMENTORS = [
    str(ROOT / f"configs/{name}.py")
    for name in ("setr/vit-nano-dtop_setr_camvid-352", "segvit/vit-nano-tome_segvit_digit-scenes-128")
]
CLASSIFIER = str(ROOT / "configs/cropr/cifar10/deit-nano-cropr_cifar10.py")
SIZES = {CLASSIFIER: (32, 32)}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*random weights", "ignore:.*default scope", "ignore:.*palette", "ignore:.*deprecat"
)


@pytest.fixture
def trained(tmp_path):
    """Return a function from a config to a checkpoint as training writes it, an image, and what Predictor finds."""

    def make(config):
        model = Predictor(config)
        classes = model.classes or tuple("0123456789")
        meta = dict(dataset_meta=dict(classes=classes, palette=[[9 * i, 0, 0] for i in range(len(classes))]))
        file, image = tmp_path / "epoch_1.pth", tmp_path / "a.png"
        torch.save(dict(state_dict=model.model.state_dict(), meta=meta), file)
        Image.fromarray(scene(*SIZES.get(config, (120, 136)))).save(image)
        return str(file), str(image), Predictor(config, file)(image)

    return make


def inputs_of(image):
    """Return the ways in which the inferencers take an image: a file, and an array (h, w, 3) uint8 BGR."""
    return image, np.ascontiguousarray(np.asarray(Image.open(image))[..., ::-1])


def test_mmdet(trained, tmp_path):
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    weights, image, ours = trained(DETECTOR)
    assert len(ours.boxes) > 10

    def check(found):
        assert np.array_equal(found["bboxes"], ours.boxes) and np.array_equal(found["scores"], ours.scores)
        assert np.array_equal(found["labels"], ours.labels)

    inferencer = DetInferencer(DETECTOR, weights, device="cpu", show_progress=False)
    model = init_detector(DETECTOR, weights, device="cpu")
    for given in inputs_of(image):
        (found,) = inferencer(given, return_datasamples=True)["predictions"]
        check({name: found.pred_instances[name].numpy() for name in ("bboxes", "scores", "labels")})
        instances = inference_detector(model, given).pred_instances
        check({name: instances[name].numpy() for name in ("bboxes", "scores", "labels")})
        assert np.array_equal(instances.masks, ours.masks)
    assert model.dataset_meta["classes"] == ours.classes
    with pytest.raises(DataError, match="image nowhere.jpg does not exist"):
        inferencer("nowhere.jpg")


@pytest.mark.parametrize("config", SEGMENTORS, ids=["DToP", "ToMe"])
def test_mmseg(trained, config):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    weights, image, ours = trained(config)
    inferencer = MMSegInferencer(config, weights, device="cpu", show_progress=False)
    for given in inputs_of(image):
        assert np.array_equal(inferencer(given)["predictions"], ours.map)
        found = inference_model(init_model(config, weights, device="cpu"), given)
        assert np.array_equal(found.pred_sem_seg.data[0], ours.map)


def test_mmpretrain(trained):
    from mmpretrain import ImageClassificationInferencer

    weights, image, ours = trained(CLASSIFIER)
    inferencer = ImageClassificationInferencer(CLASSIFIER, weights, device="cpu")
    for given in inputs_of(image):
        (found,) = inferencer(given)
        assert np.array_equal(found["pred_scores"], ours.scores)
        assert found["pred_label"] == ours.labels[0]
