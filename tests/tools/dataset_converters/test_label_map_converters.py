"""Converters and checker of label maps, on made-up data sets of a few small images."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import mmseg
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.datasets import COCOStuffDataset, PascalContextDataset59
from PIL import Image
from scipy.io import savemat
from scripts import load_script, run_script

import mmseg_custom  # noqa: F401 - registers the loader
from mmcv_custom.data.checks import check_datasets

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "tools" / "dataset_converters"
MMSEG = Path(mmseg.__file__).parent / ".mim" / "tools" / "dataset_converters"


def load(name, folder=SCRIPTS):
    return load_script(folder / f"{name}.py")


check_label_maps, coco_stuff10k, pascal_context, digit_scenes = map(
    load, ("check_label_maps", "coco_stuff10k", "pascal_context", "digit_scenes")
)


def run(script, *arguments):
    return run_script(SCRIPTS / f"{script}.py", *arguments)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_config(name, folder):
    """Run the checks that precede a training; they raise where the config does not find its data in the folder."""
    cfg = Config.fromfile(ROOT / "configs" / "segvit" / f"{name}.py")
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(folder)
    assert [sentence[:10] for sentence in check_datasets(cfg)] == ["classes in"]


def image(path, shape=(12, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*shape, 3), 90, np.uint8)).save(path)


def labels_of(numbers, shape=(12, 20)):
    """Return a label map that holds all of ``numbers``."""
    return np.resize(np.array(numbers), shape)


# --- COCO-Stuff-10k ---------------------------------------------------------------------------------------------------

NUMBERS = [0, *coco_stuff10k.USED]


@pytest.fixture
def stuff(tmp_path):
    src = tmp_path / "src"
    for split, names in dict(train=("COCO_train2014_7", "COCO_train2014_9"), test=("COCO_train2014_8",)).items():
        (src / "imageLists").mkdir(parents=True, exist_ok=True)
        (src / "imageLists" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image(src / "images" / f"{name}.jpg")
            (src / "annotations").mkdir(exist_ok=True)
            savemat(src / "annotations" / f"{name}.mat", dict(S=labels_of(NUMBERS).astype(float), captions=["a"]))
    return src


def test_coco_stuff_is_brought_into_the_layout(stuff, tmp_path):
    out = tmp_path / "out"
    done = run("coco_stuff10k", stuff, out)
    assert done.returncode == 0, done.stderr
    assert "2 images with label maps, 171 of 171 classes among them; note: the official number is 9000" in done.stdout
    assert files(out) == sorted(
        file
        for split, name in (("train", 7), ("train", 9), ("test", 8))
        for file in (
            f"images/{split}2014/COCO_train2014_{name}.jpg",
            f"annotations/{split}2014/COCO_train2014_{name}_labelTrainIds.png",
        )
    )
    labels = np.asarray(Image.open(out / "annotations/test2014/COCO_train2014_8_labelTrainIds.png"))
    assert labels.dtype == np.uint8 and np.array_equal(labels, labels_of(range(172)))
    check_config("vit-l_segvit_coco-stuff10k-512", out)
    before = (out / "images").stat().st_mtime_ns
    coco_stuff10k.convert(stuff, out)
    assert (out / "images").stat().st_mtime_ns == before  # nothing was converted again


def test_coco_stuff_classes_are_mmsegs():
    theirs = load("coco_stuff10k", MMSEG).clsID_to_trID
    assert {number: coco_stuff10k.CLASS_OF[number] for number in NUMBERS} == theirs
    assert len(COCOStuffDataset.METAINFO["classes"]) == max(theirs.values()) == 171


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda src: (src / "imageLists" / "test.txt").unlink(), "test.txt does not exist; give the folder"),
        (lambda src: (src / "imageLists" / "test.txt").write_text(""), "test.txt is empty"),
        (
            lambda src: (src / "images" / "COCO_train2014_7.jpg").unlink(),
            "lacks 1 of 3 images, first COCO_train2014_7",
        ),
        (lambda src: (src / "annotations" / "COCO_train2014_9.mat").unlink(), "lacks 1 of 3 label maps, first COCO"),
    ],
)
def test_coco_stuff_without_a_file_is_one_sentence_and_leaves_nothing(stuff, tmp_path, change, message):
    change(stuff)
    done = run("coco_stuff10k", stuff, tmp_path / "out")
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize(
    "content, message",
    [
        (dict(T=labels_of([1])), "has no field S"),
        (dict(S="text"), "something other than label numbers"),
        (dict(S=labels_of([1.5])), "something other than label numbers"),
        (dict(S=labels_of([np.nan])), "something other than label numbers"),
        (dict(S=labels_of([-1])), "something other than label numbers"),
        (dict(S=labels_of([1], (20, 12))), r"has shape \(20, 12\), but its image is 12 x 20"),
        (dict(S=labels_of([3, 12])), "has label 12, which is not used"),
        (dict(S=labels_of([183])), "has label 183, which is not used"),
        (dict(S=labels_of([9999])), "has label 9999, which is not used"),
        (b"none", "cannot be read as a MATLAB file"),
    ],
)
def test_a_map_that_does_not_fit_is_one_sentence_and_leaves_nothing(stuff, tmp_path, content, message):
    path = stuff / "annotations" / "COCO_train2014_9.mat"
    path.write_bytes(content) if isinstance(content, bytes) else savemat(path, content)
    with pytest.raises(ValueError, match=message):
        coco_stuff10k.convert(stuff, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_coco_stuff_replaces_only_what_it_is_told_to(stuff, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    done = run("coco_stuff10k", stuff, tmp_path / "out")
    assert done.returncode == 1 and "--overwrite" in done.stderr and len(done.stderr.splitlines()) == 1
    assert files(tmp_path / "out") == ["mine"]
    assert run("coco_stuff10k", stuff, tmp_path / "out", "--overwrite").returncode == 0
    assert not (tmp_path / "out" / "mine").exists()


# --- Pascal-Context ---------------------------------------------------------------------------------------------------


def numbers_of_mmseg(monkeypatch):
    monkeypatch.setitem(sys.modules, "detail", SimpleNamespace(Detail=None))  # which is not to be had
    return load("pascal_context", MMSEG)._mapping.tolist()


@pytest.fixture
def context(tmp_path, monkeypatch):
    """VOC2010 and the labels; labels.txt has the 59 classes where mmseg's converter has them, among 459."""
    voc, labels = tmp_path / "VOC2010", tmp_path / "labels"
    for split, names in dict(train=("2008_1", "2008_2"), val=("2008_3",)).items():
        (voc / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image(voc / "JPEGImages" / f"{name}.jpg", (24, 20))
            labels.mkdir(exist_ok=True)
            savemat(labels / f"{name}.mat", dict(LabelMap=labels_of(range(461), (24, 20))))
    table = {number: f"other {number}" for number in range(1, 460)}
    table |= dict(zip(numbers_of_mmseg(monkeypatch)[1:], pascal_context.CLASSES, strict=True))
    (labels / "labels.txt").write_text("".join(f"{number}: {name}\n" for number, name in table.items()))
    return labels, voc


def test_pascal_context_is_laid_out_beside_voc(context, monkeypatch):
    labels, voc = context
    assert tuple(pascal_context.CLASSES) == PascalContextDataset59.METAINFO["classes"]
    done = run("pascal_context", labels, voc)
    assert done.returncode == 0, done.stderr
    assert "val.txt: 1 images with label maps, 59 of 59 classes among them; note: the official number" in done.stdout
    made = np.asarray(Image.open(voc / "SegmentationClassContext" / "2008_1.png")).ravel()[:461]
    numbers = numbers_of_mmseg(monkeypatch)
    assert made[numbers].tolist() == list(range(60)) and np.count_nonzero(made) == 59
    assert (voc / "ImageSets/SegmentationContext/train.txt").read_text() == "2008_1\n2008_2\n"
    check_config("vit-l_segvit_pascal-context59-480", voc)
    before = files(voc), (voc / "SegmentationClassContext").stat().st_mtime_ns
    pascal_context.convert(labels, voc)
    assert before == (files(voc), (voc / "SegmentationClassContext").stat().st_mtime_ns)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda labels, voc: (labels / "labels.txt").unlink(), "labels.txt does not exist; get it from https"),
        (lambda labels, voc: (labels / "labels.txt").write_text("1: sky\n"), "does not name aeroplane, bag"),
        (lambda labels, voc: (labels / "2008_3.mat").unlink(), "lacks 1 of 3 label maps, first 2008_3.mat"),
        (lambda labels, voc: (voc / "JPEGImages" / "2008_3.jpg").unlink(), "lacks 1 of 3 images"),
        (lambda labels, voc: (voc / "ImageSets/Main/val.txt").unlink(), "val.txt does not exist"),
        (lambda labels, voc: image(voc / "JPEGImages" / "2008_3.jpg", (20, 20)), "its image is 20 x 20"),
        (
            lambda labels, voc: (
                (voc / "SegmentationClassContext").mkdir() or (voc / "SegmentationClassContext/a.png").touch()
            ),
            "--overwrite to replace",
        ),
    ],
)
def test_pascal_context_that_does_not_fit_is_one_sentence_and_changes_nothing(context, change, message):
    labels, voc = context
    change(labels, voc)
    before = files(voc)
    done = run("pascal_context", labels, voc)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert files(voc) == before


# --- digit scenes -----------------------------------------------------------------------------------------------------


def test_the_digit_scenes_have_label_maps_where_the_config_looks_for_them(tmp_path, monkeypatch):
    monkeypatch.setattr(digit_scenes, "write_crops", lambda *arguments: None)
    assert digit_scenes.make(tmp_path / "set", train=2, val=1, size=64)
    check_config("vit-nano_segvit_digit-scenes-128", tmp_path / "set")


# --- the checker ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ade(tmp_path):
    for split, count in (("training", 3), ("validation", 2)):
        for i in range(count):
            image(tmp_path / "images" / split / f"{i}.jpg")
            (tmp_path / "annotations" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels_of(range(151)).astype(np.uint8)).save(tmp_path / "annotations" / split / f"{i}.png")
    return tmp_path


def test_a_sound_set_has_no_problem(ade):
    done = run("check_label_maps", "ade20k", ade)
    assert done.returncode == 0 and "3 images with label maps, 150 of 150 classes among them; note:" in done.stdout
    layout = check_label_maps.LAYOUTS["ade20k"]
    sentences, summary = check_label_maps.inspect(layout, layout.splits[0], ade, quick=True)
    assert not sentences and "classes" not in summary


def test_the_official_numbers():
    official = {name: [split.official for split in layout.splits] for name, layout in check_label_maps.LAYOUTS.items()}
    assert official == dict(ade20k=[20210, 2000], coco_stuff10k=[9000, 1000], pascal_context=[4998, 5105])


@pytest.mark.parametrize(
    "change, message, quick",
    [
        (lambda data: (data / "images/training/1.jpg").unlink(), "1 label maps without an image (1);", True),
        (lambda data: (data / "annotations/training/1.png").unlink(), "1 label maps missing (1.png);", True),
        (lambda data: (data / "images/training").rename(data / "elsewhere"), "has no images/training; see", True),
        (lambda data: (data / "images/training/1.jpg").write_bytes(b"x"), "1 files that cannot be read (1:", False),
        (
            lambda data: (data / "annotations/training/1.png").write_bytes(b"x"),
            "1 files that cannot be read (1:",
            False,
        ),
        (
            lambda data: Image.new("RGB", (20, 12)).save(data / "annotations/training/1.png"),
            "not one byte per pixel (1.png: mode RGB);",
            False,
        ),
        (
            lambda data: Image.new("L", (12, 20)).save(data / "annotations/training/1.png"),
            "another size than their image (1.png is 12 x 20, not 20 x 12);",
            False,
        ),
        (
            lambda data: Image.new("L", (20, 12), 151).save(data / "annotations/training/1.png"),
            "1 labels that are not a class (1.png: 151); labels are 1 to 150",
            False,
        ),
        (
            lambda data: Image.new("L", (20, 12), 255).save(data / "annotations/training/1.png"),
            "1 labels that are not a class (1.png: 255); labels are 1 to 150",
            False,
        ),
    ],
)
def test_each_problem_is_told(ade, capsys, change, message, quick):
    change(ade)
    assert check_label_maps.check("ade20k", ade) == 1
    assert message in capsys.readouterr().out
    assert check_label_maps.check("ade20k", ade, quick=True) == quick


def test_turned_images_fit_the_maps_of_the_turned(ade):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (12, 20)).save(ade / "images/training/1.jpg", exif=exif)  # 20 x 12 once it is turned
    assert check_label_maps.check("ade20k", ade) == 0


def test_images_that_are_left_out_are_told_and_hidden_ones_are_not_counted(ade, capsys):
    for name in ("._0.jpg", ".DS_Store"):
        (ade / "images/training" / name).write_bytes(b"")
        (ade / "annotations/training" / name).write_bytes(b"")
    assert check_label_maps.check("ade20k", ade) == 0
    image(ade / "images/training/3.png")
    image(ade / "images/training/more/4.jpg")
    assert check_label_maps.check("ade20k", ade) == 1
    assert "2 files left out of the images (3.png, more/);" in capsys.readouterr().out


def test_a_split_that_is_all_ignored_is_told(ade, capsys):
    for path in (ade / "annotations/validation").iterdir():
        Image.new("L", (20, 12)).save(path)
    assert check_label_maps.check("ade20k", ade) == 1
    assert "1 splits whose pixels are all ignored" in capsys.readouterr().out


def test_lists_that_do_not_fit(context, capsys):
    labels, voc = context
    pascal_context.convert(labels, voc)
    (voc / "ImageSets/SegmentationContext/train.txt").write_text("2008_1\n2008_1\n2008_9\n")
    assert check_label_maps.check("pascal_context", voc) == 3
    told = capsys.readouterr().out
    assert re.search(r"lists more than once \(2008_1\);", told) and re.search(r"images missing \(2008_9.jpg\);", told)


def test_an_empty_set_is_a_problem(tmp_path, capsys):
    for split in check_label_maps.LAYOUTS["coco_stuff10k"].splits:
        (tmp_path / split.images).mkdir(parents=True)
        (tmp_path / split.labels).mkdir(parents=True)
    assert check_label_maps.check("coco_stuff10k", tmp_path) == 2
    assert "1 empty splits (no .jpg with a *_labelTrainIds.png);" in capsys.readouterr().out
