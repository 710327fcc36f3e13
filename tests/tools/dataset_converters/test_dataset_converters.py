"""The data set converters and the checker, on a few small images made by the tests."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scripts import load_script, run_script

SCRIPTS = Path(__file__).parents[3] / "tools" / "dataset_converters"
ARGUMENTS = dict(train=5, val=3, size=128)


def load(name):
    return load_script(SCRIPTS / f"{name}.py")


digit_scenes, pennfudan, check_coco, camvid = map(load, ("digit_scenes", "pennfudan", "check_coco", "camvid"))


def run(script, *arguments):
    return run_script(SCRIPTS / f"{script}.py", *arguments)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "set"
    assert digit_scenes.make(out, **ARGUMENTS)
    return out


# --- digit scenes -----------------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes(scenes, tmp_path):
    assert digit_scenes.make(tmp_path / "again", **ARGUMENTS)
    assert digests(tmp_path / "again") == digests(scenes)


def test_other_seed_gives_other_images_and_fewer_images_the_same_ones(scenes):
    images, labels = digit_scenes.digit_samples()
    samples = digit_scenes.split_samples(labels)["train"]
    regions = digit_scenes.split_photos(digit_scenes.load_photos())["train"]

    def scene(seed, index):
        rng = np.random.default_rng([seed, 0, 0, index])
        return digit_scenes.draw_scene(rng, regions, images, labels, samples, 128)

    assert not np.array_equal(scene(0, 3)[0], scene(1, 3)[0])
    stored = cv2.imread(str(scenes / "semantic/train/000003.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(digit_scenes.label_map(scene(0, 3)[1], 128), stored)


def test_a_smaller_digit_scale_gives_more_digits_of_the_same_size_in_pixels():
    images, labels = digit_scenes.digit_samples()
    regions = digit_scenes.split_photos(digit_scenes.load_photos())["train"]

    def digits(size, scale):
        """Return the longer sides of the boxes and the number of digits of 8 scenes."""
        scenes = [
            digit_scenes.draw_scene(np.random.default_rng(i), regions, images, labels, range(99), size, scale)
            for i in range(8)
        ]
        found = [instance.mask for _, instances in scenes for instance in instances]
        spans = [[np.ptp(np.flatnonzero(mask.any(axis))) for axis in (0, 1)] for mask in found]
        return np.median(np.max(spans, 1)), len(found) / len(scenes)

    (side, number), (small_side, small_number) = digits(256, 1), digits(512, 0.5)
    assert abs(small_side / side - 1) < 0.4 and small_number > 1.5 * number


def test_sets_made_before_there_was_a_digit_scale_are_recognized(scenes, tmp_path):
    card = json.loads((scenes / "digit_scenes.json").read_text())
    del card["arguments"]["digit_scale"]
    (tmp_path / "digit_scenes.json").write_text(json.dumps(card))
    assert digit_scenes.made_with(tmp_path) == digit_scenes.made_with(scenes)


def test_train_and_val_share_no_digit_and_no_background(scenes):
    _, labels = digit_scenes.digit_samples()
    splits = digit_scenes.split_samples(labels)
    assert not set(splits["train"]) & set(splits["val"])
    assert len(splits["train"]) + len(splits["val"]) == len(labels)
    for split, samples in splits.items():
        assert set(labels[samples]) == set(range(10))
        stored = {int(path.stem): int(path.parent.name) for path in (scenes / "classes" / split).rglob("*.png")}
        assert stored == {int(sample): int(labels[sample]) for sample in samples}
    photos = digit_scenes.load_photos()
    regions = digit_scenes.split_photos(photos)
    for photo, train, val in zip(photos.values(), regions["train"], regions["val"], strict=True):
        assert train.shape[1] + val.shape[1] == photo.shape[1]
        assert not np.shares_memory(train, val)


@pytest.mark.parametrize("split, count", [("train", 5), ("val", 3)])
def test_masks_boxes_and_label_maps_agree(scenes, split, count):
    coco = COCO(scenes / "annotations" / f"instances_{split}.json")
    assert [category["name"] for category in coco.loadCats(range(1, 11))] == [str(digit) for digit in range(10)]
    assert len(coco.imgs) == count == len(list((scenes / split).iterdir()))
    for image in coco.imgs.values():
        stored = cv2.imread(
            str(scenes / "semantic" / split / image["file_name"].replace(".jpg", ".png")), cv2.IMREAD_UNCHANGED
        )
        labels, covered = np.zeros((128, 128), np.uint8), np.zeros((128, 128), int)
        instances = coco.imgToAnns[image["id"]]
        assert 1 <= len(instances) <= 8
        for instance in instances:
            mask = coco.annToMask(instance).astype(bool)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert instance["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert instance["area"] == mask.sum() >= 80 / 4
            labels[mask] = instance["category_id"]
            covered += mask
        assert covered.max() == 1
        assert stored.dtype == np.uint8 and np.array_equal(labels, stored)


def test_digits_stand_out_from_what_is_behind_them(scenes):
    coco = COCO(scenes / "annotations" / "instances_train.json")
    for image in coco.imgs.values():
        pixels = cv2.imread(str(scenes / "train" / image["file_name"])).astype(np.float32) / 255
        lab = cv2.cvtColor(pixels, cv2.COLOR_BGR2Lab)
        for instance in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(instance)
            ring = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - cv2.dilate(mask, np.ones((5, 5), np.uint8))
            inside = np.median(lab[mask > 0], 0)
            assert np.median(np.linalg.norm(lab[ring > 0] - inside, axis=-1)) > 15


def test_a_finished_set_is_left_alone_and_other_content_is_refused(scenes, tmp_path):
    before = digests(scenes)
    assert digit_scenes.make(scenes, **ARGUMENTS) is False
    with pytest.raises(ValueError, match="digit scenes made with .*'train': 5"):
        digit_scenes.make(scenes, **{**ARGUMENTS, "train": 6})
    assert digests(scenes) == before
    (tmp_path / "notes.txt").write_text("mine")
    result = run("digit_scenes", tmp_path, "--train", 1)
    assert result.returncode == 1 and "--overwrite" in result.stderr and len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_overwrite_replaces(tmp_path, monkeypatch):
    monkeypatch.setattr(digit_scenes, "write_crops", lambda *args: None)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    assert digit_scenes.make(tmp_path / "set", train=1, val=1, size=64, overwrite=True)
    assert not (tmp_path / "set" / "old").exists() and (tmp_path / "set" / "digit_scenes.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_broken_run_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*args):
        raise OSError("no space left")

    monkeypatch.setattr(digit_scenes, "write_crops", full_disk)
    with pytest.raises(OSError, match="no space"):
        digit_scenes.make(tmp_path / "set", train=1, val=1, size=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [dict(train=0), dict(size=8), dict(seed=-1), dict(digit_scale=2)])
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; give"):
        digit_scenes.make(tmp_path / "set", **wrong)


def test_absent_photographs_are_done_without(monkeypatch):
    monkeypatch.setattr(
        digit_scenes,
        "PHOTOS",
        dict(sklearn=("datasets/images", ("china.jpg", "gone.jpg")), no_such_package=("data", ("cat.png",))),
    )
    assert list(digit_scenes.load_photos()) == ["china.jpg"]
    monkeypatch.setattr(digit_scenes, "PHOTOS", dict(sklearn=("datasets/images", ("gone.jpg",))))
    with pytest.raises(ValueError, match="no background photograph"):
        digit_scenes.load_photos()


# --- Penn-Fudan -------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path):
    """Make a PennFudanPed of 17 images of 24 x 20; each mask holds the ids 1 and 3, and 2 has no pixel."""
    src = tmp_path / "PennFudanPed"
    for name in ("PNGImages", "PedMasks"):
        (src / name).mkdir(parents=True)
    for index in range(17):
        name = f"{'FudanPed' if index < 8 else 'PennPed'}{index:05d}"
        Image.new("RGB", (24, 20), (index, 0, 0)).save(src / "PNGImages" / f"{name}.{'jpg' if index % 2 else 'png'}")
        mask = np.zeros((20, 24), np.uint8)
        mask[2:10, 3:7], mask[5:15, 5:12] = 1, 3
        Image.fromarray(mask).save(src / "PedMasks" / f"{name}_mask.png")
    return src


def test_pennfudan_becomes_coco(people, tmp_path):
    out = tmp_path / "coco"
    result = run("pennfudan", people, out)
    assert result.returncode == 0 and "12 train and 5 val" in result.stdout and "170" in result.stdout
    seen = set()
    for split in ("train", "val"):
        annotation = out / "annotations" / f"instances_{split}.json"
        assert check_coco.problems(annotation, out / "images" / split, ["person"]) == []
        coco = COCO(annotation)
        names = {image["file_name"] for image in coco.imgs.values()}
        assert {name[:5] for name in names} == {"Fudan", "PennP"} and not names & seen
        seen |= names
        first, second = coco.imgToAnns[1]
        assert (first["area"], first["bbox"]) == (8 * 4 - 10, [3, 2, 4, 8])
        assert (second["area"], second["bbox"]) == (70, [5, 5, 7, 10])
    before = digests(out)
    assert pennfudan.convert(people, out) == dict(train=12, val=5)
    assert digests(out) == before


def test_pennfudan_split_of_the_official_set():
    names = [f"FudanPed{i:05d}" for i in range(1, 75)] + [f"PennPed{i:05d}" for i in range(1, 97)]
    splits = pennfudan.split_images(names)
    assert (len(splits["train"]), len(splits["val"])) == (120, 50)
    assert sum(name.startswith("Fudan") for name in splits["val"]) in range(20, 25)


def test_pennfudan_says_what_is_wrong(people, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no folder PNGImages"):
        pennfudan.convert(tmp_path, tmp_path.with_name("elsewhere"))
    with pytest.raises(ValueError, match="one inside the other"):
        pennfudan.convert(people, people, overwrite=True)
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(ValueError, match="--overwrite"):
        pennfudan.convert(people, out)
    masks = sorted((people / "PedMasks").iterdir())
    Image.new("L", (3, 3)).save(masks[0])
    with pytest.raises(ValueError, match=f"{masks[0].name} has shape"):
        pennfudan.convert(people, tmp_path / "new")
    masks[0].write_bytes(b"no image")
    with pytest.raises(ValueError, match="does not decode"):
        pennfudan.convert(people, tmp_path / "new")
    masks[0].unlink()
    with pytest.raises(ValueError, match=f"lacks 1 of 17 masks, first {masks[0].name}"):
        pennfudan.convert(people, tmp_path / "new")
    assert not (tmp_path / "new").exists() and [path.name for path in out.iterdir()] == ["mine"]


# --- the checker ------------------------------------------------------------------------------------------------------


def small_set():
    """Return a valid annotation file: two images of 30 x 20, polygons, RLE of both kinds."""

    def annotation(number, image, segmentation):
        return dict(
            id=number, image_id=image, category_id=1, bbox=[2, 3, 10, 8], area=80, iscrowd=0, segmentation=segmentation
        )

    return dict(
        images=[dict(id=i, file_name=f"{i}.png", width=30, height=20) for i in (1, 2)],
        annotations=[
            annotation(1, 1, [[2, 3, 12, 3, 12, 11]]),
            annotation(2, 2, dict(size=[20, 30], counts=[100, 50, 450])),
            annotation(3, 2, dict(size=[20, 30], counts="T3b1R>")),
        ],
        categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
    )


@pytest.fixture
def check(tmp_path):
    """Return a function that writes annotations beside two images and returns their problems."""
    for name in (1, 2):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.png")

    def problems(content, **options):
        path = tmp_path / "a.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return check_coco.problems(path, tmp_path, **options)

    return problems


def test_a_sound_set_has_no_problem(check, scenes):
    assert check(small_set(), classes=["cat", "dog"]) == []
    for split in ("train", "val"):
        assert (
            check_coco.problems(
                scenes / f"annotations/instances_{split}.json", scenes / split, [str(digit) for digit in range(10)]
            )
            == []
        )


def plant(table, index, **fields):
    def change(content):
        content[table][index].update(fields)

    return change


PLANTED = [
    (lambda content: content.pop("images"), "has no list of images"),
    (lambda content: content.update(annotations=[]), 'missing tables .*empty list "annotations"'),
    (lambda content: content["annotations"].append("x"), r"entries without an id .*annotations\[3\]"),
    (plant("annotations", 1, id=1), 'duplicate ids in "annotations" .*1 occurs 2 times'),
    (plant("images", 1, id=1), 'duplicate ids in "images"'),
    (plant("categories", 1, name="cat"), "category names that occur more than once"),
    (plant("images", 0, file_name="gone.png"), "1 images missing in .*gone.png"),
    (plant("images", 0, file_name=None), "images without a file_name"),
    (plant("images", 0, width=None), "images without a width and height"),
    (plant("images", 0, width=31), "images of another size .*1.png is 30 x 20, not 31 x 20"),
    (plant("images", 0, file_name="a.json"), "images that do not decode"),
    (plant("annotations", 0, image_id=9), "annotations of an unknown image .*id 1: image_id 9"),
    (plant("annotations", 0, category_id=[9]), "annotations of an unknown category"),
    (plant("annotations", 0, area=None), "annotations without an area"),
    (plant("annotations", 0, bbox=[1, 2, 3]), "boxes that are not four numbers"),
    (plant("annotations", 0, bbox=[1, 2, 3, float("nan")]), "boxes that are not four numbers"),
    (plant("annotations", 0, bbox=[1, 2, 0, 4]), "degenerate boxes"),
    (plant("annotations", 0, bbox=[25, 2, 10, 4]), "boxes that reach outside .*x 25..35"),
    (plant("annotations", 0, segmentation=[]), "segmentations .*empty or missing"),
    (plant("annotations", 0, segmentation=[[1, 2, 3, 4]]), "segmentations .*a polygon of 4 numbers"),
    (plant("annotations", 0, segmentation=[1, 2]), "segmentations .*not a list of numbers"),
    (plant("annotations", 1, segmentation=dict(counts=[600])), "segmentations .*without a size"),
    (plant("annotations", 1, segmentation=dict(size=[30, 20], counts=[300, 300])), "segmentations .*an RLE of 30 x 20"),
    (plant("annotations", 1, segmentation=dict(size=[20, 30], counts=[300, 200])), "segmentations .*an RLE of 500 px"),
    (plant("annotations", 1, segmentation=dict(size=[20, 30], counts=[600])), "segmentations .*without a pixel"),
    (plant("annotations", 1, segmentation=dict(size=[20, 30], counts="T3b1")), "segmentations .*an RLE of"),
    (plant("annotations", 1, segmentation=dict(size=[20, 30], counts="é")), "segmentations .*cannot be read"),
    (lambda content: content["annotations"][0].pop("iscrowd"), "1 annotations without iscrowd .id 1.; 0 is used"),
    (plant("annotations", 0, image_id="1"), "image_id is of another type .*id 1: '1'"),
    (lambda content: [a.update(iscrowd=1) for a in content["annotations"]], "nothing to train on: 0 of 3 .*3 that are"),
    (lambda content: [a.update(bbox=[0.1, 0.2, 0.5, 0.5]) for a in content["annotations"]], "3 boxes between 0 and 1"),
]


@pytest.mark.parametrize("change, expected", PLANTED, ids=[expected for _, expected in PLANTED])
def test_each_planted_problem_is_told(check, change, expected):
    content = small_set()
    change(content)
    found = check(content)
    assert any(re.search(expected, sentence) for sentence in found), found


@pytest.mark.parametrize("text, expected", [("", "is empty"), ('{"images": [', "is not JSON"), ("[]", "JSON list")])
def test_unreadable_json(check, text, expected):
    found = check(text)
    assert len(found) == 1 and expected in found[0]


@pytest.mark.parametrize(
    "classes, expected",
    [
        (["cat", "dog", "cow"], "not categories of the file (cow)"),
        (["cat"], "not among the classes (dog)"),
        (["dog", "cat"], "different orders of the classes"),
    ],
)
def test_classes_that_do_not_fit(check, classes, expected):
    found = check(small_set(), classes=classes)
    assert len(found) == 1 and expected in found[0]


def test_quick_does_not_decode(check, tmp_path):
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    assert check(small_set(), quick=True) == []
    assert len(check(small_set())) == 1


def test_examples_are_few_and_the_count_is_whole():
    findings = check_coco.Findings()
    for number in range(10):
        findings.add("odd things", number, "mend them")
    assert list(findings.sentences("a.json")) == ["a.json: 10 odd things (0, 1, 2, ...); mend them"]


@pytest.mark.parametrize("size, problems", [((20, 30), 0), ((30, 20), 1)])
def test_sizes_are_those_of_the_turned_image(check, tmp_path, size, problems):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.new("RGB", (30, 20)).save(tmp_path / "1.jpg", exif=exif)
    content = small_set()
    content["images"] = [dict(id=1, file_name="1.jpg", width=size[0], height=size[1])]
    content["annotations"] = content["annotations"][:1]
    found = check(content)
    assert len(found) == problems and all("1.jpg is 20 x 30, not 30 x 20" in sentence for sentence in found)


def test_ids_that_begin_at_0_and_a_byte_order_mark_are_no_problem(check):
    content = small_set()
    for annotation in content["annotations"]:
        annotation["id"] -= 1
    assert check(content) == [] and check("\ufeff" + json.dumps(content)) == []


def test_command_line_of_the_checker(check, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["check_coco.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            check_coco.main()
        return end.value.code, capsys.readouterr().out

    content = small_set()
    assert check(content) == []
    code, out = run(tmp_path / "a.json", tmp_path, "--classes", "cat, dog")
    assert code == 0 and out.endswith("2 images, 3 annotations, 2 categories; no problem\n") and out.count("\n") == 1
    assert run(tmp_path / "a.json", tmp_path / "nowhere")[0] == 1
    for split in ("train2017", "val2017"):
        (tmp_path / "tree" / split).mkdir(parents=True)
        for name in (1, 2):
            Image.new("RGB", (30, 20)).save(tmp_path / "tree" / split / f"{name}.png")
    (tmp_path / "tree/annotations").mkdir()
    content["annotations"][0]["iscrowd"] = 1  # no problem, but said
    (tmp_path / "tree/annotations/instances_train2017.json").write_text(json.dumps(content))
    code, out = run("--tree", tmp_path / "tree")
    assert code == 1 and "instances_val2017.json does not exist" in out
    (tmp_path / "tree/annotations/instances_val2017.json").write_text(json.dumps(content))
    code, out = run("--tree", tmp_path / "tree")
    assert code == 0 and "2 of 3 annotations are learned (cat 2); skipped: 1 that are crowds (iscrowd 1) (cat 1)" in out
    assert run(tmp_path / "a.json")[0] == 2
    (tmp_path / "tree/images").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / "tree" / split).rename(tmp_path / "tree/images" / split)
    code, out = run("--tree", tmp_path / "tree")
    assert code == 0 and "are in images/train2017 and images/val2017, and the configs look in train2017 and val" in out


@pytest.mark.parametrize(
    ("files", "folders", "found"),
    [
        ([], [], ["train2017 train2017", "val2017 val2017"]),
        (["val2017"], ["images/val2017"], ["train2017 train2017", "val2017 images/val2017"]),
        (["train", "val"], ["images/train", "images/val"], ["train images/train", "val images/val"]),
        (["train", "val"], ["train", "val", "images/val"], ["train train", "val val"]),
        (["minival2014"], ["images"], ["minival2014 minival2014"]),
    ],
)
def test_pairs_of_a_tree(tmp_path, files, folders, found):
    for folder in ("annotations", *folders):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in files:
        (tmp_path / f"annotations/instances_{name}.json").write_text("{}")
    pairs = check_coco.pairs_of(tmp_path)
    assert [f"{file.stem.split('_')[1]} {folder.relative_to(tmp_path)}" for file, folder in pairs] == found


def test_converters_start_without_torch():
    names = "digit_scenes, digits, cifar10, camvid, pennfudan, coco_stuff10k, pascal_context"
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- CamVid -----------------------------------------------------------------------------------------------------------


def camvid_source(folder, suffix=".jpg", splits=("train", "val")):
    """Make three images per split that contain all labels."""
    for split in splits:
        for name in (split, f"{split}annot"):
            (folder / name).mkdir(parents=True)
        for i in range(3):
            labels = (np.arange(20 * 30).reshape(20, 30) // 7 % 12).astype(np.uint8)
            Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)).save(folder / split / f"{split}{i}{suffix}")
            Image.fromarray(labels).save(folder / f"{split}annot" / f"{split}{i}.png")
    return folder


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_camvid_is_brought_into_the_configs_layout(tmp_path, suffix):
    src, out = camvid_source(tmp_path / "src", suffix, ("train", "val", "test")), tmp_path / "out"
    assert camvid.convert(src, out) == dict(train=3, val=3, test=3)
    for split in ("train", "val", "test"):
        names = sorted(path.name for path in (out / "images" / split).iterdir())
        assert names == [f"{split}{i}.png" for i in range(3)]
        assert names == sorted(path.name for path in (out / "labels" / split).iterdir())
        given = np.asarray(Image.open(src / f"{split}annot" / names[1]))
        made = np.asarray(Image.open(out / "labels" / split / names[1]))
        assert (made == 255).any() and np.array_equal(np.where(given == 11, 255, given), made)
        before, after = (
            np.asarray(Image.open(p)) for p in (src / split / f"{split}1{suffix}", out / "images" / split / names[1])
        )
        assert np.array_equal(before, after)
    written = digests(out)
    assert camvid.convert(src, out) == dict(train=3, val=3, test=3) and digests(out) == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda src: (src / "val").rename(src / "other"), "has no folder val;"),
        (lambda src: (src / "trainannot").rename(src / "labels"), "has no folder trainannot;"),
        (lambda src: (src / "trainannot" / "train1.png").unlink(), "lacks 1 of 3 label maps, first train1.png"),
        (
            lambda src: Image.new("L", (30, 20), 12).save(src / "valannot" / "val2.png"),
            "has label 12, but CamVid's are 0",
        ),
        (lambda src: Image.new("L", (20, 30)).save(src / "valannot" / "val2.png"), "but its image is 20 x 30"),
        (lambda src: Image.new("RGB", (30, 20)).save(src / "valannot" / "val2.png"), "has shape"),
        (lambda src: (src / "train" / "train0.jpg").write_bytes(b"x"), "does not decode"),
        (
            lambda src: Image.new("RGB", (30, 20)).save(src / "train" / "train0.png"),
            "holds train0 as more than one file",
        ),
    ],
)
def test_camvid_that_does_not_fit_is_one_sentence_and_leaves_nothing(tmp_path, change, message):
    src = camvid_source(tmp_path / "src")
    change(src)
    done = run("camvid", src, tmp_path / "out")
    assert done.returncode and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_camvid_replaces_only_what_it_is_told_to(tmp_path):
    src, out = camvid_source(tmp_path / "src"), tmp_path / "out"
    camvid.convert(src, out)
    (out / "labels" / "val" / "val0.png").unlink()
    assert "already holds other files" in run("camvid", src, out).stderr
    done = run("camvid", src, out, "--overwrite")
    assert "out: 3 train, 3 val images" in done.stdout and (out / "labels" / "val" / "val0.png").is_file()
