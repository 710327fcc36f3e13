"""Label files of own data that are broken: one sentence that names the file."""

import json

import numpy as np
import pytest
from PIL import Image

from mmcv_custom import DataError
from mmcv_custom.own_data import read_folder
from mmcv_custom.own_data.yolo import read, yaml_of


def images(folder, number=3):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(folder / f"{i}.png")


def yolo(root, line):
    images(root / "images")
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
    for i in range(3):
        (root / f"labels/{i}.txt").write_bytes(line)
    return lambda: read(root, yaml_of(root))


@pytest.mark.parametrize(
    "line", [b"nan 0.5 0.5 0.1 0.1", b"0 inf 0.5 0.1 0.1", b"0 0.5 0.5 nan 0.1", b"0 0.5 x 0.1 0.1"]
)
def test_yolo_lines_that_are_no_finite_numbers(tmp_path, line):
    with pytest.raises(DataError, match=r"0.txt, line 1 is .* it needs a class number and fractions"):
        yolo(tmp_path, line)()


def test_yolo_labels_that_are_no_text(tmp_path):
    with pytest.raises(DataError, match="0.txt is no text in UTF-8"):
        yolo(tmp_path, b"\x8b\xff\x00")()


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path):
    data = yolo(tmp_path, b"\xef\xbb\xbf0 0.5 0.5 0.5 0.5\n")()
    assert data.splits["train"][0].objects[0]["bbox"] == [10, 7.5, 20, 15]


LABELME = dict(imagePath="0.png", shapes=[dict(label="cat", points=[[1, 1], [9, 9]], shape_type="rectangle")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(shapes=[dict(LABELME["shapes"][0], points=[[1, 1, 6], [9, 9]])]), "are not pairs"),
        (dict(shapes=[dict(LABELME["shapes"][0], points=[[[1, 1]], [9, 9]])]), "are not pairs"),
        (
            dict(shapes=[dict(LABELME["shapes"][0], points=[["x", 1], [9, 9]])]),
            "coordinate is 'x' and must be a number",
        ),
        (dict(shapes=[3]), "has no list of shapes"),
        (dict(shapes=None), "has no list of shapes"),
        (dict(imagePath=None), "names no image: imagePath is None"),
        (dict(imagePath="1" * 300), "names the image 1+, and below .* it is not there"),
    ],
)
def test_labelme_files_of_another_form(tmp_path, change, words):
    images(tmp_path)
    (tmp_path / "0.json").write_text(json.dumps(LABELME | change))
    with pytest.raises(DataError, match=f"0.json.*{words}"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["labels.json", "_annotations.coco.json", "0.xml"])
def test_folders_called_like_label_files_are_no_label_files(tmp_path, name):
    images(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="holds nothing that is known"):
        read_folder(tmp_path, "detect")


@pytest.mark.parametrize("value", ["nan", "inf", "x", ""])
def test_voc_boxes_that_are_no_finite_numbers(tmp_path, value):
    images(tmp_path)
    box = f"<bndbox><xmin>{value}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for i in range(3):
        text = f"<annotation><filename>{i}.png</filename><object><name>cat</name>{box}</object></annotation>"
        (tmp_path / f"{i}.xml").write_text(text)
    with pytest.raises(DataError, match=f"0.xml: xmin is '{value}' and must be a number"):
        read_folder(tmp_path)


def test_cvat_boxes_without_a_label(tmp_path):
    images(tmp_path)
    box = '<image name="0.png"><box xtl="1" ytl="1" xbr="9" ybr="9"/></image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{box}</annotations>")
    with pytest.raises(DataError, match="annotations.xml: a box of 0.png has no label"):
        read_folder(tmp_path)


def test_label_maps_that_are_cut_short(tmp_path):
    images(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for i in range(3):
        path = tmp_path / f"masks/{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 3, (30, 40), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match="2.png is no image that can be read .*save it again"):
        read_folder(tmp_path)
