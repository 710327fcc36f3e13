"""Predictor on tiny models of all three tasks: inputs, results, and traces of a single forward."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmcv_custom import ConfigError, DataError, Predictor
from mmcv_custom.data.synthetic import scene
from mmcv_custom.inference import Classification, Detection, Segmentation, TokenView, Window, visualize
from mmcv_custom.inference.class_names import class_names
from mmcv_custom.inference.results import save_image
from mmcv_custom.inference.windows import window_corners
from token_pruning import PassTrace, Trace
from token_pruning.analysis.plot import PALETTE

ROOT = Path(__file__).resolve().parents[3]
DETECTOR = ROOT / "configs/quickstart/digits_svit-adapter-nano.py"
DENSE = ROOT / "configs/quickstart/digits_vit-adapter-nano.py"
SEGMENTOR = ROOT / "configs/segmentation/vit-nano-tome_linear_camvid-352.py"
DTOP = ROOT / "configs/setr/vit-nano-dtop_setr_camvid-352.py"
CLASSIFIER = ROOT / "configs/cropr/cifar10/deit-nano-cropr_cifar10.py"
pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*default scope")


def predictor(config, **options):
    return Predictor(config, None, **options)


def test_a_detector_finds_the_same_from_file_array_and_image(tmp_path):
    image = scene(96, 128)
    Image.fromarray(image).save(tmp_path / "a.png")
    model = predictor(DETECTOR)
    found = model(tmp_path / "a.png")
    assert isinstance(found, Detection) and len(found.boxes) and found.masks.shape[1:] == (96, 128)
    assert found.classes == tuple("0123456789") and np.array_equal(found.image, image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for other in (model(str(tmp_path / "a.png")), model(image), model(Image.fromarray(image)), model(tensor)):
        assert np.array_equal(found.boxes, other.boxes) and np.array_equal(found.masks, other.masks)
    assert found.trace.keep_ratio().shape == (1, 6) and len(found.tokens.keep_ratio()) == 6
    # random weights keep the config's ratios, of 192 tokens (96 x 128 becomes 192 x 256)
    assert found.tokens.keep_ratio() == pytest.approx([1, 1, 0.7, 0.6, 0.5, 0.4], abs=0.5 / 192 + 1e-6)


def test_folders_and_batches_give_the_results_of_single_images(tmp_path):
    for i, size in enumerate([(64, 64), (64, 64), (64, 96)]):
        Image.fromarray(scene(*size, i)).save(tmp_path / f"{i}.png")
    model = predictor(DETECTOR)
    alone = [model(file) for file in sorted(tmp_path.iterdir())]
    forwards = []
    model.batch = 3
    model.model.backbone.register_forward_hook(lambda module, args, out: forwards.append(len(args[0])))
    together = model(tmp_path)
    assert forwards == [2, 1] and [r.path for r in together] == [r.path for r in alone]
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one.boxes, other.boxes, atol=1e-3)
        assert torch.equal(one.trace.masks(), other.trace.masks())


def test_no_images_give_no_results():
    model = predictor(CLASSIFIER, batch=4)
    for none in ([], (), iter([])):
        assert model(none) == []


@pytest.mark.parametrize(("config", "size"), [(DETECTOR, 64), (SEGMENTOR, 352), (CLASSIFIER, 32)])
def test_a_printed_result_is_one_readable_line(config, size):
    model = predictor(config)
    found = model(scene(size, size))
    line = repr(found)
    assert line.startswith(f"<{type(found).__name__} of an array, {size} x {size} pixels: {found.summary()}; ")
    assert line.endswith("% of the tokens computed>") and str(found) == line and len(line) < 250 and "\n" not in line
    view = repr(found.tokens)
    assert view.startswith(f"<TokenView of {found.trace.grid[0]} x ") and view.count("%") == len(found.tokens.blocks)
    assert "1 images" in repr(found.trace) and "tensor" not in repr(found.trace) + view + line


def test_words_and_drawings_begin_at_the_score_threshold():
    image = scene(64, 64)
    sure, unsure = np.array([[2, 2, 30, 30]], np.float32), np.array([[30, 30, 60, 60]], np.float32)

    def found(boxes, scores, **options):
        boxes, scores = np.concatenate(boxes), np.array(scores, np.float32)
        return Detection(
            image, "a.jpg", ("cat",), None, None, boxes, scores, np.zeros(len(boxes), int), None, **options
        )

    both, one = found([sure, unsure], [0.9, 0.2]), found([sure], [0.9])
    assert both.summary() == one.summary() == "1 found: cat 0.90"
    assert repr(both) == "<Detection of a.jpg, 64 x 64 pixels: 1 found: cat 0.90>"
    assert both.draw().tobytes() == one.draw().tobytes() and len(both.boxes) == len(both.to_coco()) == 2
    for lower in (both.above(0.1), found([sure, unsure], [0.9, 0.2], score_thr=0.1)):
        assert lower.summary() == "2 found: cat 0.90, cat 0.20" and lower.draw().tobytes() != one.draw().tobytes()
    assert found([unsure], [0.2]).summary() == "nothing above the score threshold of 0.3"


def test_the_predictor_passes_its_score_threshold_on():
    found = predictor(DETECTOR, score_thr=0)(scene(64, 64))
    assert found.summary().startswith(f"{len(found.boxes)} found: ") and "more" in found.summary()
    with pytest.raises(ConfigError, match="score_thr 1.5 is no score: give a number from 0 to 1"):
        predictor(DETECTOR, score_thr=1.5)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (None, "average"),
        ({"averaged_weights": False}, "raw"),
    ],
)
def test_averaged_weights_are_taken_unless_the_config_says_otherwise(tmp_path, options, taken):
    model = predictor(CLASSIFIER).model
    raw = model.state_dict()
    average = {name: value + 1 if value.is_floating_point() else value for name, value in raw.items()}
    torch.save(dict(state_dict=raw, state_dict_ema=average), tmp_path / "both.pth")
    torch.save(dict(state_dict=dict(raw=raw, average=average)[taken]), tmp_path / "one.pth")
    both, one = (Predictor(CLASSIFIER, tmp_path / name, options=options) for name in ("both.pth", "one.pth"))
    image = scene(32, 32)
    assert np.array_equal(both(image).scores, one(image).scores)
    assert both.report.entry == dict(raw="state_dict", average="state_dict_ema")[taken]


def test_coco_entries_hold_boxes_and_masks():
    from pycocotools import mask as coco

    found = predictor(DETECTOR)(scene(64, 64))
    entries = found.to_coco(7)
    assert json.loads(json.dumps(entries)) == entries and len(entries) == len(found.boxes)
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert entries[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1] and entries[0]["image_id"] == 7
    assert entries[0]["category_id"] == found.labels[0] + 1
    assert np.array_equal(coco.decode(entries[0]["segmentation"]).astype(bool), found.masks[0])
    assert found.to_coco(category_ids=range(90, 100))[0]["category_id"] == 90 + found.labels[0]
    best = found.above(float(found.scores[3]))
    assert 4 <= len(best.boxes) < len(found.boxes) and (best.scores >= found.scores[3]).all()


def test_a_segmentor_gives_a_map_and_its_merged_tokens():
    found = predictor(SEGMENTOR)(scene(352, 352))
    assert isinstance(found, Segmentation) and found.map.shape == (352, 352)
    assert sum(found.shares().values()) == pytest.approx(1) and set(found.shares()) <= set(found.classes)
    shares = found.tokens.shares()
    assert np.allclose(shares.sum(1), 1) and shares[-1, 1] > 0.2  # in groups
    assert found.tokens.exits() is None
    json.dumps(found.to_dict())


def test_dtops_tokens_exit_after_their_stages():
    model = predictor(DTOP)
    model.set_cost(0.0925)
    assert model.cost_value == 0.0925 and model.cost_param == "threshold"
    found = model(scene(352, 352))
    exits = found.tokens.exits()
    assert exits and set(exits) <= {2, 3}
    assert sum(exits.values()) == pytest.approx(1 - found.tokens.keep_ratio()[-1])
    assert any(words.startswith("exits after block 2") for words, _ in found.tokens.exit_legend())


@pytest.mark.parametrize(
    ("used", "left"),
    [
        ([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]], {0: 0.25, 1: 0.25}),
        ([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1]], None),
        ([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]], None),
    ],
    ids=["exit", "come back", "stay"],
)
def test_exits_are_reported_only_if_tokens_exit_and_none_comes_back(used, left):
    trace = PassTrace((2, 2), 0, {block: torch.tensor([row]).bool() for block, row in enumerate(used)})
    assert TokenView(scene(32, 32), (Window(0, 0, trace),), 16).exits() == left


def test_a_classifier_gives_its_best_classes():
    found = predictor(CLASSIFIER)(scene(32, 32))
    assert isinstance(found, Classification) and found.scores.sum() == pytest.approx(1, abs=1e-5)
    assert [score for _, score in found.top(3)] == sorted(found.scores.tolist(), reverse=True)[:3]
    ratios = found.tokens.keep_ratio()
    assert ratios[0] == ratios[-1] == 1 > ratios[-2]  # all come back before the last block
    assert found.tokens.shares()[-2, 2] == pytest.approx(1 - ratios[-2])


def test_sliding_windows_cover_the_image(tmp_path):
    slide = "dict(_delete_=True, mode='slide', crop_size=(64, 64), stride=(40, 40))"
    (tmp_path / "slide.py").write_text(
        f"_base_ = {str(SEGMENTOR)!r}\nmodel = dict(test_cfg={slide}, backbone=dict(\n    reducer=dict(r=4)))\n"
    )
    found = predictor(tmp_path / "slide.py")(scene(64, 120))
    assert [(w.y, w.x) for w in found.tokens.windows] == [(0, 0), (0, 40), (0, 56)]
    assert found.tokens.overlay(5).size == (480, 256)
    divisible = predictor(
        tmp_path / "slide.py",
        options={"model.data_preprocessor.test_cfg": dict(size_divisor=32), "model.test_cfg.stride": (43, 43)},
    )
    found = divisible(scene(107, 107))  # padded to 128: a third row begins at 64
    assert [(w.y, w.x) for w in found.tokens.windows] == [(y, x) for y in (0, 43, 64) for x in (0, 43, 64)]
    assert found.tokens.contact_sheet() and found.map.shape == (107, 107)
    assert window_corners((100, 64), (64, 64), (64, 64)) == [(0, 0), (36, 0)]
    assert window_corners((30, 30), (64, 64), (40, 40)) == [(0, 0)]


def test_setting_the_cost_keeps_the_weights():
    model = predictor(DETECTOR)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    image = scene(64, 64)
    most = sum(model(image).tokens.keep_ratio())
    model.reconfigure(keep_ratio=0.2)
    assert sum(model(image).tokens.keep_ratio()) < most
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    with pytest.raises(ConfigError, match="ratio_scale = -1 does not fit SViT"):
        model.set_cost(-1)
    with pytest.raises(ConfigError, match="has no reducer, so there is no cost to set"):
        predictor(DENSE).set_cost(0.5)
    with pytest.raises(ConfigError, match="'mode'"):
        predictor(SEGMENTOR).reconfigure(mode="sample")


def test_the_cost_of_configs_that_set_r():
    model = predictor(CLASSIFIER, options={"model.backbone.reducer": dict(r=4, keep_ratio=None)})
    assert model.cost_value is None and model.setting == "r = 4"
    with pytest.raises(ConfigError, match="num_queries = 4 does not fit Cropr: it needs weights of another shape"):
        model.reconfigure(num_queries=4)
    model.set_cost(0.5)
    assert model.setting == "keep_ratio = 0.5" and predictor(DENSE).setting is None


def test_a_float_that_is_a_whole_number_of_tokens_is_an_integer():
    model, image = predictor(SEGMENTOR), scene(352, 352)
    found = []
    for r in (4, 4.0):
        model.set_cost(r)
        found.append(model(image).trace.masks())
    assert torch.equal(*found) and not found[0][:, -1].all()


def test_options_are_for_files_and_configs_alike():
    cfg = Config.fromfile(DETECTOR)
    options = {"model.backbone.reducer.keep_ratio": [0.25, 0.25, 0.25, 0.25]}
    found = [predictor(config, options=options) for config in (DETECTOR, cfg)]
    assert found[0].reducer_config == found[1].reducer_config
    assert found[0].reducer_config["keep_ratio"] == [0.25] * 4
    assert cfg.model.backbone.reducer.get("keep_ratio") != [0.25] * 4
    with pytest.raises(ConfigError, match="modle"):
        predictor(cfg, options={"modle.backbone.depth": 3})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cfg: cfg.test_dataloader.dataset.update(pipeline=[]), "has an empty test_dataloader.dataset.pipeline"),
        (lambda cfg: cfg.model.pop("backbone"), "has no model.backbone"),
    ],
    ids=["pipeline", "backbone"],
)
def test_configs_that_cannot_predict_are_refused(change, sentence):
    cfg = Config.fromfile(DETECTOR)
    change(cfg)
    with pytest.raises(ConfigError, match=sentence):
        predictor(cfg)


def test_class_names_are_found_in_the_toolbox_of_a_data_set():
    cfg = Config(dict(default_scope="mmdet", test_dataloader=dict(dataset=dict(type="CocoDataset"))))
    classes = class_names(cfg, None)
    assert len(classes) == 80 and classes[32] == "sports ball"
    one = np.zeros((1, 4), np.float32)
    found = Detection(scene(8, 8), None, classes, None, None, one, np.ones(1, np.float32), np.array([32]), None)
    assert found.to_coco()[0]["category_id"] == 37
    assert class_names(cfg, dict(meta=dict(CLASSES=("cat", "dog")))) == ("cat", "dog")


def test_exif_orientation_is_applied_to_files_and_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(48, 96)).save(tmp_path / "turned.png", exif=exif)
    model = predictor(DETECTOR)
    read, given = model(tmp_path / "turned.png"), model(Image.open(tmp_path / "turned.png"))
    assert read.image.shape == (96, 48, 3) and np.array_equal(read.image, given.image)


def test_images_before_a_broken_one_get_results(tmp_path):
    (tmp_path / "b.png").write_text("none")
    model = predictor(DETECTOR, batch=4)
    seen = []
    with pytest.raises(DataError, match="b.png is no image"):
        for found in model.stream([scene(64, 64), scene(64, 64), tmp_path / "b.png"]):
            seen.append(found)
    assert len(seen) == 2


def test_an_outer_trace_records_the_same_forward():
    model = predictor(DETECTOR)
    with Trace() as trace:
        found = model(scene(64, 64))
    assert len(trace.passes) == 1 and torch.equal(trace.passes[0].masks(), found.trace.masks())


def test_random_weights_cause_a_warning_and_nothing_is_printed(capsys):
    with pytest.warns(UserWarning, match="random weights: its predictions mean nothing") as warned:
        model = Predictor(DETECTOR)
    assert {w.filename for w in warned if "random weights" in str(w.message)} == {__file__}
    capsys.readouterr()
    model(scene(64, 64)).draw()
    assert capsys.readouterr().out == "" and len(model.notes) == 2
    model.reconfigure(keep_ratio=0.3)
    assert "exact ratios" in model.notes[1]
    model.reconfigure(mode="sample")
    assert len(model.notes) == 1


def test_a_dense_checkpoint_in_a_pruned_model_is_noted(tmp_path):
    torch.save(dict(state_dict=predictor(DENSE).model.state_dict()), tmp_path / "dense.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notes = Predictor(DETECTOR, tmp_path / "dense.pth").notes
    assert notes[0].endswith("has no weights for the SViT that selects tokens: it selects at random")


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        (np.zeros((4, 4), np.uint8), "is no image: give"),
        (np.zeros((0, 4, 3), np.uint8), r"an array of shape \(0, 4, 3\) .* is no image"),
        (
            np.zeros((4, 4, 3)),
            r"float64 is no image: give \(height, width, 3\) uint8 RGB; of values from 0 to 1, multiply",
        ),
        (np.zeros((2, 4, 4, 3), np.uint8), "give .* uint8 RGB, several as a list"),
        (
            torch.zeros(3, 4, 4),
            r"a tensor of shape \(3, 4, 4\) and type float32 is no image: give \(3, height, width\)",
        ),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "give .* uint8 RGB, several as a list"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"a tensor of shape \(4, 4, 3\) and type uint8 is no image"),
        ([np.zeros((4, 4), bool)], "type bool is no image"),
        (None, "None is no image: give files"),
        (3, "3 is no image"),
        (Image.fromarray(np.zeros((4, 4), np.uint16)), "a PIL image of mode I;16 has more than 8 bits"),
    ],
    ids=[
        *("missing", "grey", "no rows", "floats", "batch", "float tensor", "batch of tensors", "channels last"),
        *("list", "none", "number", "16 bits"),
    ],
)
def test_invalid_images_are_refused(image, sentence):
    with pytest.raises(DataError, match=sentence):
        predictor(CLASSIFIER)(image)


def test_images_of_an_unsupported_size_are_refused():
    with pytest.raises(DataError, match="48 x 48 pixels after the test pipeline .* takes 32 x 32 only"):
        predictor(CLASSIFIER)(scene(48, 48))


def test_masks_are_tinted_at_their_position():
    image = np.full((700, 800, 3), 200, np.uint8)  # large enough not to be enlarged
    masks = np.zeros((2, 700, 800), bool)  # the second stays empty
    masks[0, 650:, 100:200] = True
    drawn = np.asarray(
        visualize.detections(
            image, np.array([[100, 600, 200, 700], [9, 9, 30, 30]]), np.ones(2), np.zeros(2, int), "ab", masks
        )
    )
    paint = np.array(PALETTE[0])
    assert (drawn[690, 400:] == 200).all() and (drawn[630, 110:190] == 200).all()
    assert (drawn[675, 150] == (0.55 * 200 + 0.45 * paint).round()).all() and (drawn[650, 150] == paint).all()


def test_windows_beyond_the_image_are_counted_and_not_drawn():
    trace = PassTrace((2, 2), 0, {block: torch.tensor([[1, 1, 0, 1]]).bool() for block in range(2)})
    view = TokenView(scene(40, 40), (Window(0, 0, trace), Window(0, 64, trace)), 16)
    assert view.keep_ratio() == [0.75, 0.75] and view.contact_sheet() and view.exit_map().size == (480, 480)


def test_images_are_drawn_at_any_size(tmp_path):
    found = predictor(DETECTOR)(scene(40, 700)).above(0.1)
    found.save(tmp_path / "deep" / "found.jpg")
    assert Image.open(tmp_path / "deep" / "found.jpg").size == (700, 40)
    with pytest.raises(DataError, match="choose a name that ends in"):
        save_image(found.draw(), tmp_path / "found.xyz")
    with pytest.raises(DataError, match="choose a name that ends in"):
        save_image(found.draw(), tmp_path / "found.psd")  # which can only be read
    assert found.draw([]).size == (700, 40)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_image(found.draw(), tmp_path / "file" / "found.png")
