"""plot_content.py: covered fractions, the fit, and the messages where nothing can be compared."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from scripts import load_script, run_tool

from mmcv_custom import DataError
from mmcv_custom.cli.launch import build_model, run

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools/analysis_tools/plot_content.py"
PRUNED = str(ROOT / "configs/quickstart/digits_svit-adapter-nano.py")
SEGMENTOR = str(ROOT / "configs/segvit/vit-nano-svit_segvit_digit-scenes-128.py")
pytestmark = pytest.mark.filterwarnings("ignore:.*default scope")


@pytest.fixture(scope="module")
def tool():
    return load_script(TOOL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a folder with five digit scenes and random weights of both models."""
    folder = tmp_path_factory.mktemp("project")
    converter = "tools/dataset_converters/digit_scenes.py"
    run_tool(converter, "data/digit_scenes", "--train", 4, "--val", 5, cwd=folder, code=0)
    for name, config in dict(detector=PRUNED, segmentor=SEGMENTOR).items():
        torch.save(dict(state_dict=build_model(Config.fromfile(config), None).state_dict()), folder / f"{name}.pth")
    for name in range(10):  # a classifier's images, in class folders
        (folder / f"data/digits/val/{name}").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / f"data/digits/val/{name}/a.png")
    return folder


def test_detector_and_segmentor_see_the_same_covered_shares(tool, project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    rows = {}
    for name, config in dict(detector=PRUNED, segmentor=SEGMENTOR).items():
        monkeypatch.setattr(sys, "argv", ["plot_content.py", config, f"{name}.pth", "--out", name, "--device", "cpu"])
        tool.main()
        (rows[name],) = json.loads((project / name / "content.json").read_text())
        assert Image.open(project / name / "content.png").width > 800 and "5 images, r = " in capsys.readouterr().out
    labels = [np.asarray(Image.open(file)) > 0 for file in sorted(Path("data/digit_scenes/semantic/val").iterdir())]
    # COCO's outlines and the label maps round their borders differently.
    for row, tolerance in zip(rows.values(), (0.01, 1e-6), strict=True):
        shares = [image["covered"] for image in row["images"]]
        assert shares == pytest.approx([label.mean() for label in labels], abs=tolerance)
        kept = np.array([image["keep_by_block"] for image in row["images"]])
        assert {block["block"] for block in row["blocks"]} == {i for i in range(kept.shape[1]) if kept[:, i].min() < 1}
        assert row["mean"] == pytest.approx(tool.fit(np.array(shares), kept[:, row["pruned_blocks"]].mean(1)))
        assert {"commit", "machine", "command"} <= row.keys()


def test_boxes_stand_in_for_masks_and_other_classes_do_not_count(tool):
    coverage = tool.Coverage.__new__(tool.Coverage)
    coverage.objects = [1]
    square = [[0, 0, 10, 0, 10, 10, 0, 10]]
    sample = dict(
        height=20,
        width=20,
        instances=[
            dict(bbox=[0, 0, 10, 10], bbox_label=1, mask=square),
            dict(bbox=[5, 0, 15, 10], bbox_label=1),
            dict(bbox=[0, 0, 20, 20], bbox_label=0),
        ],
    )
    mask = coverage._from_instances(sample)
    assert mask.sum() == 150 and mask[:10, :15].all()


def test_a_line_through_known_points(tool):
    x = np.array([0.0, 0.1, 0.2, 0.4])
    assert tool.fit(x, 0.3 + 0.5 * x) == pytest.approx(dict(slope=0.5, offset=0.3, correlation=1))
    assert tool.fit(x, np.full(4, 0.7)) == dict(slope=0.0, offset=0.7, correlation=None)


def images(covered, kept):
    return [dict(image="", covered=c, keep_by_block=[1.0, k]) for c, k in zip(covered, kept, strict=True)]


def test_the_mean_counts_pruned_blocks_that_computed_all_tokens(tool):
    fits = tool.summary(images([0.1, 0.2, 0.3], [0.3, 0.4, 0.5]), [0, 1])
    assert list(fits["blocks"]) == [1] and fits["blocks"][1]["slope"] == pytest.approx(1)
    assert fits["mean"] == pytest.approx(dict(slope=0.5, offset=0.6, correlation=1))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (images([0.1, 0.2], [0.5, 0.5]), "has 2 images: at least 3"),
        (images([0, 0, 0], [0.5, 0.4, 0.3]), "none of the images has an annotation"),
        (images([1, 1, 1], [0.5, 0.4, 0.3]), "objects cover 100% of every image"),
        (images([0.1, 0.2, 0.3], [1, 1, 1]), "every block computed all tokens"),
    ],
)
def test_what_cannot_be_compared_is_an_error(tool, found, sentence):
    with pytest.raises(DataError, match=sentence):
        tool.summary(found, [0])


@pytest.mark.parametrize(
    ("config", "options", "sentence"),
    [
        (PRUNED.replace("svit", "vit"), [], "has no reducer: give one of a pruned model"),
        (PRUNED, ["--classes", "7", "cat"], "--classes cat: the data set has 0, 1, 2"),
        (PRUNED, ["--cfg-options", "val_dataloader.dataset.data_root=nowhere"], "does not exist"),
        (str(ROOT / "configs/deit/digits/evit_deit-nano_digits.py"), [], "has neither boxes nor label maps"),
    ],
)
def test_a_wrong_option_ends_with_one_sentence(tool, project, monkeypatch, capsys, config, options, sentence):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["plot_content.py", config, "detector.pth", "--out", "none", *options])
    with pytest.raises(SystemExit) as end:
        run(tool.main)
    assert end.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (project / "none").exists()
