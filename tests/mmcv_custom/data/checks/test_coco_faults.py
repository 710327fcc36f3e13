"""What a COCO-format file may hold: refused with a sentence, completed, or skipped and counted as the loader skips."""

import copy
import json
import re

import pytest
from PIL import Image

from mmcv_custom import DataError, LoadImageFromFile
from mmcv_custom.data.checks.coco import check_coco, check_coco_images
from mmcv_custom.data.checks.coco_usage import coco_usage
from mmcv_custom.data.coco_file import complete, read_coco

CLASSES = ("cat", "dog")


def content_of(change=None):
    """Return a sound file of two images and three objects, after ``change``."""
    square = [[2, 3, 12, 3, 12, 13, 2, 13]]
    shared = dict(image_id=1, bbox=[2, 3, 10, 10], area=100, iscrowd=0)
    content = dict(
        images=[dict(id=i, file_name=f"{i}.png", width=30, height=20) for i in (1, 2)],
        categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
        annotations=[dict(shared, id=i, category_id=c, segmentation=square) for i, c in ((0, 1), (1, 2), (2, 2))],
    )
    content = copy.deepcopy(content)
    if change:
        change(content)
    return content


def first(**fields):
    """Return a change of the first annotation's fields."""
    return lambda content: content["annotations"][0].update(fields)


def every(**fields):
    return lambda content: [annotation.update(fields) for annotation in content["annotations"]]


def image(**fields):
    return lambda content: content["images"][0].update(fields)


def without(name):
    return lambda content: [annotation.pop(name) for annotation in content["annotations"]]


@pytest.fixture
def check(tmp_path):
    def run(change, text=None, encoding="utf-8", **options):
        path = tmp_path / "ann.json"
        path.write_text(json.dumps(content_of(change)) if text is None else text, encoding=encoding)
        return check_coco(str(path), CLASSES, **{"masks": True, **options})

    return run


RLE = dict(size=[20, 30], counts=[100, 50, 450])
REFUSED = [
    (first(bbox=["2", "3", "10", "10"]), r"boxes that are not four numbers \(id 0: \['2', .*without quotes"),
    (first(bbox=None), r"boxes that are not four numbers \(id 0: None"),
    (first(bbox=[2, 3, float("inf"), 4]), "not four numbers"),
    (first(bbox=[[2, 3, 4, 4]]), "not four numbers"),
    (first(bbox=[2, 3, 4, 2**63]), "not four numbers"),
    (image(width=10**29), "images without a width and height"),
    (lambda content: content["annotations"][0].pop("bbox"), "not four numbers"),
    (first(area="100"), r"areas that are no number of px \(id 0: '100'\)"),
    (first(iscrowd="0"), r"values of iscrowd that are not 0 or 1 \(id 0: '0'\)"),
    (first(segmentation=[]), r"ann.json: 1 empty or invalid segmentations \(id 0: empty or missing\)"),
    (lambda content: content["annotations"][1].pop("segmentation"), r"\(id 1: empty or missing\)"),
    (first(segmentation=dict(RLE, size=[10, 15])), "an RLE of 10 x 15 .height x width. in an image of 20 x 30"),
    (first(segmentation=dict(RLE, size=[30, 20])), "an RLE of 30 x 20"),
    (first(segmentation=dict(size=[20, 30])), "counts cannot be read"),
    (first(segmentation=[[2, 3, 12, 3]]), "id 0: a polygon of 4 numbers"),
    (first(segmentation=[2, 3, 12, 3, 12, 13]), "a polygon that is not a list of numbers"),
    (first(segmentation=[[[2, 3], [12, 3], [12, 13]]]), "a polygon that is not a list of numbers"),
    (first(segmentation=[[2, 3, 12, 3, -1e30, 13]]), "a polygon with a corner at 1e.30 px"),
    (first(segmentation=[[0.1, 0.1, 0.4, 0.1, 0.4, 0.6]]), "a polygon between 0 and 1"),
    (first(image_id="1"), "image_id is of another type than the id that it means .id 0: '1'.; write both as numbers"),
    (first(category_id="1"), "category_id is of another type"),
    (lambda content: content["annotations"][0].pop("image_id"), "annotations of an unknown image"),
    (first(image_id={}), "annotations of an unknown image .id 0: image_id {}."),
    (first(image_id=[]), "annotations of an unknown image"),
    (first(id=1), 'duplicate ids in "annotations" .1 occurs 2 times'),
    (image(id=2), 'duplicate ids in "images"'),
    (image(id="1"), '"images" with ids of two types'),
    (image(id=None), 'ids in "images" that are neither number nor text .images.0'),
    (image(height=0), "images without a width and height .1.png: 30 x 0.*whole numbers"),
    (image(width="30"), "images without a width and height .1.png: '30' x 20"),
    (image(file_name=None), "images without a file_name"),
    (lambda content: content["categories"][0].update(name=7), "categories without a name"),
    (lambda content: content["categories"].append(dict(id=3, name="cat")), "names that occur more than once .cat"),
    (every(bbox=[0.1, 0.2, 0.5, 0.4]), "3 boxes between 0 and 1.*multiply them by the width and height"),
    (every(bbox=[15, 8, 28, 18]), 'write "bbox" as .x, y, width, height., not as two corners'),
]


@pytest.mark.parametrize("change, message", REFUSED, ids=range(len(REFUSED)))
@pytest.mark.parametrize("training", [True, False])
def test_what_would_fail_or_mislead_is_refused(check, change, message, training):
    with pytest.raises(DataError, match=message):
        check(change, training=training)


def test_segmentations_are_only_wanted_where_they_are_read(check):
    check(without("segmentation"), masks=False)
    skipped = first(segmentation=[], bbox=[2, 3, 0, 0], area=0)
    assert "2 of 3 annotations are learned" in check(skipped)[1][0]
    with pytest.raises(DataError, match="id 0: empty or missing"):  # evaluation reads it
        check(skipped, training=False)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ('{"images": [', "is not JSON"),
        ("[]", "holds a JSON list"),
        ('{"images": null}', "no list of"),
    ],
)
def test_what_is_no_annotation_file(check, text, message):
    with pytest.raises(DataError, match=f"ann.json .*{message}"):
        check(None, text)


@pytest.mark.parametrize("name, value", [("area", 100), ("iscrowd", 0)])
@pytest.mark.parametrize("change", [without, lambda name: every(**{name: None})])
def test_what_is_missing_and_plain_is_completed_and_said_once(check, name, value, change):
    content, (said, _) = check(change(name))
    assert [annotation[name] for annotation in content["annotations"]] == [value] * 3
    assert f"3 annotations without {'an ' * (name == 'area')}{name} (id 0, id 1, id 2)" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(check, encoding):
    assert len(check(None, encoding=encoding)[0]["annotations"]) == 3


def test_a_test_set_without_truth(check):
    content = content_of()
    del content["annotations"]
    assert "no score can be computed" in check(None, json.dumps(content), training=False)[1][0]
    with pytest.raises(DataError, match="nothing to train on"):
        check(None, json.dumps(content))


UNUSED = [
    (dict(iscrowd=1), "that are crowds"),
    (dict(area=0), "of area 0"),
    (dict(ignore=1), 'marked "ignore"'),
    (dict(bbox=[40, 3, 10, 10]), "with boxes outside their images"),
    (dict(bbox=[2, 3, 0.5, 10]), "with boxes below 1 px"),
    (dict(bbox=[2, 3, -4, 10]), "with boxes outside their images"),
    (dict(image_id=9), "of images that the file does not list"),
]


@pytest.mark.parametrize("fields, reason", UNUSED, ids=[reason for _, reason in UNUSED])
def test_nothing_to_train_on_is_refused_with_the_reason(check, fields, reason):
    with pytest.raises(DataError, match="nothing to train on: 0 of 3 annotations are learned; skipped: 3 " + reason):
        check(every(**fields))


def test_nothing_to_evaluate_is_refused(check):
    with pytest.raises(DataError, match="nothing to evaluate: 0 of 3 .*3 that are crowds"):
        check(every(iscrowd=1), training=False)
    assert check(every(area=0), training=False)[1] == []  # scored, though never learned


def test_images_below_the_size_of_the_filter(check):
    with pytest.raises(DataError, match="3 in images below filter_cfg.min_size 32"):
        check(None, min_size=32)


def test_what_is_skipped_is_said_with_numbers_by_class(check):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["area"] = 0

    _, (said,) = check(change)
    assert said.endswith(
        "ann.json: 1 of 3 annotations are learned (dog 1); skipped: 1 that are crowds (iscrowd 1) (cat 1), "
        "1 of area 0 (dog 1); none of cat"
    )


@pytest.mark.parametrize("fields", [{}, *(fields for fields, _ in UNUSED)])
def test_the_count_is_the_loaders(check, tmp_path, fields):
    pytest.importorskip("mmdet_custom")
    from mmdet.datasets import CocoDataset

    path = tmp_path / "ann.json"
    path.write_text(json.dumps(content_of(first(**fields))))
    dataset = CocoDataset(ann_file=str(path), metainfo=dict(classes=CLASSES), data_prefix=dict(img=""), pipeline=[])
    learned = [i["bbox_label"] for d in map(dataset.get_data_info, range(2)) for i in d["instances"]]
    ignored = sum(i["ignore_flag"] for d in map(dataset.get_data_info, range(2)) for i in d["instances"])
    usage = coco_usage(complete(read_coco(path)), CLASSES, training=True)
    assert sum(usage.used.values()) == len(learned) - ignored == (2 if fields else 3)


@pytest.fixture
def images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.jpg")
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    return tmp_path


@pytest.mark.parametrize(
    "name, size, fits",
    [
        ("plain.jpg", (30, 20), True),
        ("turned.jpg", (20, 30), True),
        ("turned.jpg", (30, 20), False),
        ("plain.jpg", (20, 30), False),
        ("plain.jpg", (60, 40), False),
        ("plain.jpg", (30, 21), False),
    ],
)
def test_sizes_are_those_that_the_loader_gives(images, name, size, fits):
    entry = dict(id=1, file_name=name, width=size[0], height=size[1])
    loading = dict(entry, img_path=str(images / name))
    if fits:
        check_coco_images(dict(images=[entry]), "ann.json", str(images), "data")
        assert LoadImageFromFile()(loading)["img_shape"] == size[::-1]
        return
    with pytest.raises(
        DataError, match=re.escape(f"ann.json: 1 images of another size than in the annotation file ({name} is")
    ):
        check_coco_images(dict(images=[entry]), "ann.json", str(images), "data")
    with pytest.raises(DataError, match=f"{name} is .* and its annotation file says {size[0]} x {size[1]}"):
        LoadImageFromFile()(loading)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (first(area=10**400), "areas that are no number of px"),
        (first(bbox=[1, 2, 10**400, 4]), "boxes that are not four numbers"),
        (first(segmentation=[[10**400] * 6]), "a polygon that is not a list of numbers"),
    ],
)
def test_whole_numbers_beyond_every_float_are_refused(tmp_path, change, words):
    (tmp_path / "a.json").write_text(json.dumps(content_of(change)).replace("Infinity", "0"))
    with pytest.raises(DataError, match=words):
        check_coco(str(tmp_path / "a.json"), CLASSES, masks=True)


@pytest.mark.parametrize(("text", "kind"), [("null", "null"), ("[]", "list"), ("3.5", "number"), ('"a"', "text")])
def test_json_of_another_kind_is_named_as_json_names_it(tmp_path, text, kind):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=f"holds a JSON {kind} and is not in COCO format"):
        read_coco(tmp_path / "a.json")


def test_an_evaluation_says_that_boxes_without_a_size_are_never_found(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content_of(first(bbox=[1, 1, 0, 5]))))
    _, advice = check_coco(str(tmp_path / "a.json"), CLASSES, training=False)
    assert any(
        "1 degenerate boxes" in line and "counts them as objects that are never found" in line for line in advice
    )
