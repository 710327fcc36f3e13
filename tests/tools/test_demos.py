"""The demos from end to end on tiny models of all tasks with random weights, and their error messages."""

import importlib.util
import json
import pickle
import sys
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scripts import load_script, run_tool

from mmcv_custom import Predictor
from mmcv_custom.cli.launch import run
from mmcv_custom.data.synthetic import scene
from mmcv_custom.inference.cli import palette_of

ROOT = Path(__file__).resolve().parents[2]
DETECTOR, DENSE = (str(ROOT / f"configs/quickstart/digits_{name}-adapter-nano.py") for name in ("svit", "vit"))
TOME = str(ROOT / "configs/setr/vit-nano-tome_setr_camvid-352.py")
DTOP = str(ROOT / "configs/setr/vit-nano-dtop_setr_camvid-352.py")
CROPR = str(ROOT / "configs/cropr/cifar10/deit-nano-cropr_cifar10.py")
pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*default scope")


def demo(monkeypatch, name, *arguments):
    """Run a demo of the root in this process."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    run(script.main)


@pytest.fixture
def images(tmp_path):
    """Return a folder with two images of 352 x 352."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(scene(352, 352, ord(name))).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("config", "options"),
    [(DETECTOR, ["--mode", "target"]), (TOME, []), (DTOP, ["--ratio", "0.0925"]), (DENSE, ["--palette", "coco"])],
    ids=["detector", "ToMe", "DToP", "dense"],
)
def test_selector_demo_writes_a_page_with_all_its_images(monkeypatch, capsys, tmp_path, images, config, options):
    demo(monkeypatch, "selector_demo", images, config, "none", "--out", tmp_path / "out", *options)
    said = capsys.readouterr().out
    assert said.count("Token Use Rate:") == 2 and said.count("total use rate: ") == 2 and "block  0: 100.000%" in said
    page = (tmp_path / "out/index.html").read_text()
    named = {part.split("'")[0] for part in page.split("src='")[1:]}
    assert {f"{name}/block_{block:02d}.jpg" for name in "ab" for block in range(6)} < named
    assert all((tmp_path / "out" / file).stat().st_size > 500 for file in named)
    assert "prefers-color-scheme" in page
    assert ("a/exits.jpg" in named) == (config == DTOP)
    found = json.loads((tmp_path / "out/results.json").read_text())
    ratios = found["results"][0]["tokens"]["keep_by_block"]
    assert len(found["results"]) == 2 and len(ratios) == 6
    assert (ratios == [1] * 6) == (config == DENSE)
    assert f"{100 * ratios[5]:7.3f}%" in said and all((tmp_path / f"out/{n}/sheet.jpg").exists() for n in "ab")


def test_selector_demo_has_an_example_image_and_the_published_name(tmp_path):
    done = run_tool("seletor_demo.py", CROPR, "none", cwd=tmp_path, code=0)
    assert "Note: " in done.stdout and "random weights" in done.stdout
    assert "block 10:  15.625%" in done.stdout and "block 11: 100.000%" in done.stdout
    assert (tmp_path / "demo/embedded/block_11.jpg").exists()


def test_image_demo_draws_and_writes_json(monkeypatch, capsys, tmp_path, images):
    demo(monkeypatch, "image_demo", images / "a.png", DETECTOR, "none", "--out", tmp_path / "o", "--score-thr", "0")
    listed = json.loads((tmp_path / "o/results.json").read_text())["results"][0]["objects"]
    entries = json.loads((tmp_path / "o/coco.json").read_text())
    assert len(listed) == len(entries) > 0 and (tmp_path / "o/a.jpg").exists()
    demo(monkeypatch, "image_demo", images, TOME, "none", "--out", tmp_path / "seg")
    assert sorted(p.name for p in (tmp_path / "seg").iterdir()) == ["a.jpg", "b.jpg", "coco.json", "results.json"]
    assert "Written to" in capsys.readouterr().out


def test_coco_entries_are_numbered_from_1_or_as_an_annotation_file_says(monkeypatch, tmp_path, images):
    def ids(out, *options):
        demo(monkeypatch, "image_demo", images, DETECTOR, "none", "--out", tmp_path / out, *options)
        entries = json.loads((tmp_path / out / "coco.json").read_text())
        return {entry["image_id"] for entry in entries}, {entry["category_id"] for entry in entries}

    counted, categories = ids("counted")
    assert counted == {1, 2} and categories <= {*range(1, 11)}
    file = tmp_path / "ann.json"
    table = [dict(id=100 - i, name=str(i)) for i in (3, 1, 0, 2, *range(4, 10))]
    listed = [dict(id=70, file_name="b.png"), dict(id=0, file_name="images/a.png"), dict(id=5, file_name="other/a.png")]
    file.write_text(json.dumps(dict(images=listed, annotations=[], categories=table)))
    assert ids("named", "--ann", file) == ({70, 0}, {101 - category for category in categories})


def test_files_contain_objects_below_the_score_threshold(monkeypatch, capsys, tmp_path, images):
    counts = []
    for name in ("image_demo", "selector_demo"):
        demo(monkeypatch, name, images / "a.png", "--score-thr", "0.99", DETECTOR, "none", "--out", tmp_path / name)
        counts.append(len(json.loads((tmp_path / name / "results.json").read_text())["results"][0]["objects"]))
    assert counts[0] == counts[1] == len(json.loads((tmp_path / "image_demo/coco.json").read_text())) > 0
    assert "a: nothing above the score threshold" in capsys.readouterr().out


def test_a_broken_image_of_a_folder_is_left_out_and_reported(monkeypatch, capsys, tmp_path, images):
    (images / "aa.png").write_text("none")
    for name in ("image_demo", "selector_demo"):
        with pytest.raises(SystemExit) as ended:
            demo(monkeypatch, name, images, DETECTOR, "none", "--out", tmp_path / name)
        said = capsys.readouterr()
        assert ended.value.code == 2 and "1 of the images cannot be read" in said.err and "Left out: " in said.out
        found = json.loads((tmp_path / name / "results.json").read_text())
        assert len(found["results"]) == 2 and "aa.png is no image" in found["left_out"][0]


def test_images_of_the_same_name_get_names_of_their_own(monkeypatch, tmp_path):
    for name in ("cat/1", "dog/1_3", "dog/50% #1?", "owl/1", "rat/1"):
        (tmp_path / "all" / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(scene(32, 32)).save(tmp_path / "all" / f"{name}.png")
    demo(monkeypatch, "selector_demo", tmp_path / "all", CROPR, "none", "--out", tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    links = {unquote(part.split("/")[0]) for part in page.split("src='")[1:]}
    assert links == {"1", "1_2", "1_3", "1_4", "50% #1?"} and "src='50% " not in page
    assert all((tmp_path / "out" / link / "found.jpg").exists() for link in links)


def test_ctrl_c_ends_a_camera_recording_and_keeps_it(monkeypatch, capsys, tmp_path, images):
    stream = Predictor.stream

    def interrupted(self, frames):
        yield next(stream(self, frames))
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "stream", interrupted)
    demo(monkeypatch, "video_demo", images, TOME, "none", "--out", tmp_path / "a.mp4")
    assert "a.mp4: 1 frames" in capsys.readouterr().out
    good, frame = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()
    assert good and frame.shape[:2] == (704, 704)  # no legend below


def test_palettes_are_those_of_the_toolbox(capsys):
    assert len(palette_of("citys", Predictor(TOME))) == 19 and len(palette_of("citys", Predictor(DETECTOR))) == 8
    assert "--palette citys has 8 colours for 10 classes" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_video_demo_reads_frames_and_videos(monkeypatch, capsys, tmp_path, images, ending):
    video = tmp_path / f"video.{ending}"
    demo(monkeypatch, "video_demo", images, DETECTOR, "none", "--out", video, "--tokens", "--fps", "5")
    capture = cv2.VideoCapture(str(video))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 2 and capture.get(cv2.CAP_PROP_FPS) == 5
    demo(monkeypatch, "video_demo", video, DETECTOR, "none", "--out", tmp_path / "again.mp4", "--frames", "1")
    assert "again.mp4: 1 frames" in capsys.readouterr().out
    assert not list(tmp_path.glob(".part*"))


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png", "10.png", "12.png"],
        ["shot-9.jpg", "shot-10.jpg", "shot-11.jpg"],
        ["cam1_t2.png", "cam1_t10.png", "cam2_t1.png"],
        ["take/8.png", "take/9.png", "take/10.png"],
    ],
)
def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path, names):
    (tmp_path / "take").mkdir()
    for name in sorted(names):
        Image.fromarray(scene(8, 8)).save(tmp_path / name)
    frames, _, number = load_script("video_demo.py").frames_of(str(tmp_path))
    assert [frame.relative_to(tmp_path).as_posix() for frame in frames] == names and number == len(names)


def test_predictor_finds_what_the_testing_tool_finds(tmp_path):
    def tool(*arguments):
        run_tool(*arguments, cwd=tmp_path, code=0)

    tool("tools/dataset_converters/digit_scenes.py", "data/digit_scenes", "--train", 1, "--val", 2)
    torch.save(dict(state_dict=Predictor(DETECTOR).model.state_dict()), tmp_path / "w.pth")
    tool(
        "tools/test.py",
        DETECTOR,
        "w.pth",
        "--out",
        "found.pkl",
        "--cfg-options",
        "test_dataloader.num_workers=0",
        "test_dataloader.batch_size=1",
    )
    theirs = pickle.loads((tmp_path / "found.pkl").read_bytes())
    model = Predictor(DETECTOR, tmp_path / "w.pth")
    assert len(theirs) == 2
    for other in theirs:
        own, other_found = model(tmp_path / other["img_path"]), other["pred_instances"]
        assert len(own.boxes) > 10 and np.allclose(own.boxes, other_found["bboxes"], atol=1e-3)
        assert np.allclose(own.scores, other_found["scores"], atol=1e-5)
        assert np.array_equal(own.labels, other_found["labels"])
        masks = [entry["segmentation"]["counts"] for entry in own.to_coco()]
        assert masks == [mask["counts"].decode() for mask in other_found["masks"]]


MISTAKES = {
    "missing image": ("selector_demo", ["nowhere.jpg", DENSE, "none"], "image nowhere.jpg does not exist"),
    "text": ("image_demo", ["text.jpg", DENSE, "none"], "text.jpg is no image that can be read"),
    "truncated": ("image_demo", ["cut.jpg", DENSE, "none"], "cut.jpg is no image that can be read"),
    "empty folder": ("selector_demo", ["empty", DENSE, "none"], "folder empty has no images"),
    "config": ("selector_demo", ["a.jpg", "nowhere.py", "none"], "config nowhere.py does not exist"),
    "checkpoint": ("selector_demo", ["a.jpg", DENSE, "nowhere.pth"], "checkpoint nowhere.pth does not exist"),
    "another model's": ("selector_demo", ["a.jpg", DENSE, "other.pth"], "other.pth is of another model"),
    "out": ("selector_demo", ["a.jpg", DENSE, "none", "--out", "a.jpg"], "--out a.jpg cannot be made"),
    "score": ("image_demo", ["a.jpg", DENSE, "none", "--score-thr", "1.5"], "--score-thr 1.5 is no score"),
    "dense ratio": ("image_demo", ["a.jpg", DENSE, "none", "--ratio", "0.5"], "so there is no cost to set"),
    "mode": ("image_demo", ["a.jpg", TOME, "none", "--mode", "sample"], "does not fit ToMe"),
    "ratio": ("image_demo", ["a.jpg", DTOP, "none", "--ratio", "1.5"], "threshold = 1.5 does not fit DToP"),
    "device": ("image_demo", ["a.jpg", DENSE, "none", "--device", "quantum"], "--device quantum is no device"),
    "text as video": ("video_demo", ["a.txt", DENSE, "none"], "video a.txt cannot be opened"),
    "no video": ("video_demo", ["nowhere.mp4", DENSE, "none"], "video nowhere.mp4 does not exist"),
    "name of the video": (
        "video_demo",
        ["a.txt", DENSE, "none", "--out", "a.mkv"],
        "videos are written as .mp4 or .avi",
    ),
    "no annotation file": ("image_demo", ["a.jpg", DENSE, "none", "--ann", "b.json"], "file b.json does not exist"),
    "not in it": ("image_demo", ["all", DENSE, "none", "--ann", "ann.json"], "lists no image of that name"),
    "other classes": (
        "image_demo",
        ["a.jpg", DENSE, "none", "--ann", "ann.json"],
        "has no category 0, 1, 2, 3, 4 and 5",
    ),
    "no boxes": ("image_demo", ["a.jpg", CROPR, "none", "--ann", "ann.json"], "for detectors and segmentors only"),
    "over the images": ("image_demo", ["a.jpg", DENSE, "none", "--out", "."], "holds the images themselves"),
    "over class folders": ("image_demo", ["all", DENSE, "none", "--out", "all/class"], "holds the images themselves"),
    "over one class": ("selector_demo", ["all/class", DENSE, "none", "--out", "all/class"], "holds the images"),
    "no checkpoint": ("selector_demo", ["a.jpg", DENSE], "a.jpg is no config (.py): is the checkpoint missing?"),
    "all broken": ("image_demo", ["broken", DENSE, "none"], "text.jpg is no image that can be read"),
    "no display": ("image_demo", ["a.jpg", DENSE, "none", "--show"], "there is no display"),
    "no window": ("video_demo", ["all", DENSE, "none", "--show"], "there is no display"),
    "no such device": ("image_demo", ["a.jpg", DENSE, "none", "--device", "meta"], "runs on cpu and cuda"),
    "over the video": (
        "video_demo",
        ["a.avi", DENSE, "none", "--out", "./a.avi"],
        "--out ./a.avi is the input video itself",
    ),
    "folder of the video": ("video_demo", ["empty", DENSE, "none", "--out", "no/a.mp4"], "folder empty has no images"),
}


@pytest.mark.parametrize(("name", "arguments", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_ends_with_one_sentence(monkeypatch, capsys, tmp_path, name, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene(64, 64)).save("a.jpg")
    whole = Path("a.jpg").read_bytes()
    Path("cut.jpg").write_bytes(whole[: len(whole) // 2])
    Path("text.jpg").write_text("no image")
    Path("a.txt").write_text("no video")
    Path("ann.json").write_text('{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": []}')
    for folder in ("empty", "all/class", "broken"):
        Path(folder).mkdir(parents=True)
    Path("all/class/b.jpg").write_bytes(whole)
    Path("broken/text.jpg").write_text("no image")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    torch.save(dict(state_dict={"features.0.weight": torch.zeros(3)}), "other.pth")
    with pytest.raises(SystemExit) as end:
        demo(monkeypatch, name, *arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2 and sentence in said.splitlines()[-1], said
    assert not Path("demo/index.html").exists() and not list(tmp_path.glob("*.mp4"))
