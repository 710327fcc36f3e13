"""A predictor made of an exported file gives the results of the one that it was exported from."""

import numpy as np
import pytest
import torch
from exports import CASCADE, FEW, SHALLOW
from mmengine.config import Config
from mmengine.registry import MODELS

from mmcv_custom import ConfigError, DataError, Predictor
from mmcv_custom.data.synthetic import scene
from mmcv_custom.inference import Classification, Detection, Segmentation
from mmcv_custom.inference.export import export
from mmcv_custom.inference.exported import ExportedNetwork, evaluate_file
from mmcv_custom.inference.windows import window_corners

pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*default scope")


def test_a_classifier_with_its_normalisation_inside(tmp_path):
    model = Predictor("configs/deit/cifar10/deit-nano_cifar10.py", options=SHALLOW)
    done = export(model, tmp_path / "a.pt2", preprocess=True, dynamic=["batch"], batch=2)
    assert done.metadata["input"] == dict(name="images", shape=["batch", 3, 32, 32], dtype="uint8")
    images = [scene(32, 32, seed) for seed in range(3)]
    file = Predictor(tmp_path / "a.pt2", batch=3)
    for one, other in zip(model(images), file(images), strict=True):
        assert isinstance(other, Classification) and other.tokens is None and other.classes == one.classes
        assert np.allclose(one.scores, other.scores, atol=1e-5) and one.top(1)[0][0] == other.top(1)[0][0]
    with pytest.raises(ConfigError, match="it takes no checkpoint, no options and runs on the CPU"):
        Predictor(tmp_path / "a.pt2", "weights.pth")


def test_a_file_takes_the_place_of_the_model_of_a_test(tmp_path):
    config = "configs/deit/cifar10/deit-nano_cifar10.py"
    export(Predictor(config, options=SHALLOW), tmp_path / "a.pt2")
    cfg = Config.fromfile(config)
    cfg.load_from = "weights.pth"
    evaluate_file(cfg, tmp_path / "a.pt2")
    assert isinstance(MODELS.build(cfg.model), ExportedNetwork) and cfg.load_from is None
    with pytest.raises(ConfigError, match=r"a.pt2 is a file for classification and .*py is for segmentation"):
        evaluate_file(Config.fromfile("configs/segmentation/vit-nano_linear_camvid-352.py"), tmp_path / "a.pt2")
    with pytest.raises(
        ConfigError, match=r"a.pt2 has 2 classes \(a, b\) and the data of .* 4 classes \(c, d, e, ...\)"
    ):
        network = Predictor(config, options=SHALLOW)
        network.classes = ["a", "b"]
        export(network, tmp_path / "a.pt2", force=True)
        cfg.test_dataloader.dataset.metainfo = dict(classes=["c", "d", "e", "f"])
        evaluate_file(cfg, tmp_path / "a.pt2")


@pytest.mark.parametrize("preprocess", [True, False])
def test_images_of_several_sizes_are_padded_with_what_is_zero_to_the_model(segmentor, tmp_path, preprocess):
    export(segmentor, tmp_path / "a.pt2", shape=(64, 64), preprocess=preprocess)
    network = ExportedNetwork(tmp_path / "a.pt2")
    mean = [123.675, 116.28, 103.53]
    inputs = [torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(3, 32, 48, dtype=torch.uint8)]
    images = network.data_preprocessor(dict(inputs=inputs, data_samples=[None, None]))["inputs"]
    border = [124, 116, 104] if preprocess else [0, 0, 0]
    inside = [0.0, 0.0, 0.0] if preprocess else [-m / s for m, s in zip(mean, [58.395, 57.12, 57.375], strict=True)]
    assert images.shape == (2, 3, 64, 64) and images.dtype == (torch.uint8 if preprocess else torch.float32)
    assert images[1, :, 40, 10].tolist() == images[1, :, 10, 60].tolist() == border
    assert torch.allclose(images[:, :, 31, 47].float(), torch.tensor(inside).expand(2, 3), atol=1e-4)


def test_a_file_says_which_tokens_it_computed(tmp_path):
    config = "configs/deit/cifar10/tome_deit-nano_cifar10.py"
    model = Predictor(config, options=SHALLOW | {"model.backbone.reducer": dict(type="ToMe", r=8)})
    export(model, tmp_path / "a.pt2", tokens=True, dynamic=["batch"])
    one, other = (predictor(scene(32, 32)).tokens for predictor in (model, Predictor(tmp_path / "a.pt2")))
    assert other.keep_ratio() == one.keep_ratio() and other.keep_ratio()[-1] < 1
    assert (other.patch, other.pruned_blocks) == (one.patch, one.pruned_blocks)
    assert torch.equal(other.windows[0].trace.masks(), one.windows[0].trace.masks())


@pytest.fixture(scope="module")
def segmentor():
    options = {**SHALLOW, "model.test_cfg": dict(mode="slide", crop_size=(64, 64), stride=(40, 40))}
    cfg = Config.fromfile("configs/segmentation/vit-nano_linear_camvid-352.py")
    cfg.test_dataloader.dataset.pipeline = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]
    return Predictor(cfg, options=options)


def test_a_segmentor_slides_its_window_outside_of_the_file(segmentor, tmp_path):
    done = export(segmentor, tmp_path / "a.pt2", shape=(64, 64), outputs="scores", batch=1)
    assert done.metadata["outputs"] == ["scores"]
    image = scene(96, 128)
    assert len(window_corners((96, 128), (64, 64), (40, 40))) > 1
    one, other = segmentor(image), Predictor(tmp_path / "a.pt2")(image)
    assert isinstance(other, Segmentation) and other.map.shape == (96, 128)
    assert (one.map != other.map).mean() < 1e-3 and len(np.unique(other.map)) > 1


def test_a_label_map_is_for_images_of_one_window(segmentor, tmp_path):
    export(segmentor, tmp_path / "a.pt2", shape=(64, 64))
    file = Predictor(tmp_path / "a.pt2")
    image = scene(64, 64)
    assert (segmentor(image).map != file(image).map).mean() < 1e-3
    with pytest.raises(DataError, match="an image has 96 x 64 pixels after the test pipeline, and .* at most 64 x 64"):
        file(scene(96, 64))


def test_a_detector_finds_the_same_objects_and_masks(tmp_path):
    model = Predictor(CASCADE, options=FEW)
    for head in model.model.roi_head.bbox_head:
        torch.nn.init.normal_(head.fc_cls.weight, std=0.3)
    image = scene(48, 64)
    inputs = model._prepare(image).packed["inputs"]
    size = [-(-side // 32) * 32 for side in inputs.shape[-2:]]
    export(model, tmp_path / "a.pt2", shape=size, preprocess=True)
    one, other = model(image), Predictor(tmp_path / "a.pt2")(image)
    assert isinstance(other, Detection) and len(one.boxes) == len(other.boxes) > 0
    assert np.allclose(one.scores, other.scores, atol=1e-4) and (one.labels == other.labels).all()
    assert np.allclose(one.boxes, other.boxes, atol=0.05)
    assert other.masks.shape == one.masks.shape and (one.masks != other.masks).mean() < 1e-3
