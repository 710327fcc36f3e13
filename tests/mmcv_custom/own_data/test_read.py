"""mmcv_custom.own_data: every form of folder gives the same images, boxes and classes; what is not sound is said."""

import json

import numpy as np
import pytest
from PIL import Image

from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.own_data import read_folder

WIDTH, HEIGHT = 40, 20
BOX = [4.0, 2.0, 20.0, 10.0]  # x, y, w, h
POLYGON = [4.0, 2.0, 24.0, 2.0, 24.0, 12.0, 4.0, 12.0]


def images(folder, number=5, suffix=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * i, 0, 0)).save(folder / f"{i}{suffix}")
    return folder


def coco(number=5, prefix="", **annotation):
    content = dict(
        images=[dict(id=i, file_name=f"{prefix}{i}.jpg", width=WIDTH, height=HEIGHT) for i in range(number)],
        annotations=[
            dict(id=i + 1, image_id=i, category_id=7, bbox=BOX, segmentation=[POLYGON], **annotation)
            for i in range(number)
        ],
        categories=[dict(id=3, name="unused"), dict(id=7, name="cat")],
    )
    return json.dumps(content)


def coco_folder(root):
    images(root / "images")
    (root / "labels.json").write_text(coco())


def roboflow(root):
    for name in ("train", "valid"):
        (images(root / name, 2) / "_annotations.coco.json").write_text(coco(2))


def yolo(root):
    for name in ("train", "valid"):
        images(root / name / "images", 2)
        (root / name / "labels").mkdir()
        points = " ".join(str(v / (HEIGHT if i % 2 else WIDTH)) for i, v in enumerate(POLYGON))
        (root / name / "labels/0.txt").write_text(f"0 {points}\n")
        (root / name / "labels/1.txt").write_text(f"0 {14 / 40} {7 / 20} 0.5 0.5\n")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [cat]\n"
    )


def voc_text(name, box="<xmin>5</xmin><ymin>3</ymin><xmax>24</xmax><ymax>12</ymax>", size=f"{WIDTH} {HEIGHT}"):
    w, h = size.split()
    return (
        f"<annotation><filename>{name}</filename><size><width>{w}</width><height>{h}</height></size>"
        f"<object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
    )


def voc(root):
    images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    for i in range(5):
        (root / f"Annotations/{i}.xml").write_text(voc_text(f"{i}.jpg"))


def cvat(root):
    images(root / "images")
    text = "".join(
        f'<image name="{i}.jpg"><box label="cat" xtl="4" ytl="2" xbr="24" ybr="12"/></image>' for i in range(5)
    )
    (root / "annotations.xml").write_text(f"<annotations>{text}</annotations>")


def labelme(root):
    images(root)
    for i in range(5):
        shape = dict(label="cat", points=[[4, 2], [24, 12]], shape_type="rectangle")
        (root / f"{i}.json").write_text(json.dumps(dict(imagePath=f"{i}.jpg", shapes=[shape])))


FORMS = {
    "COCO": (coco_folder, True),
    "Roboflow's COCO export": (roboflow, True),
    "YOLO": (yolo, False),
    "Pascal VOC": (voc, False),
    "CVAT": (cvat, False),
    "LabelMe": (labelme, False),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_objects(form, tmp_path):
    make, masks = FORMS[form]
    make(tmp_path)
    data = read_folder(tmp_path)
    assert (data.form, data.task, list(data.classes), data.masks) == (form, "detect", ["cat"], masks)
    parts = [[p.file.name for p in data.splits[name]] for name in ("train", "val")]
    assert parts in ([["0.jpg", "1.jpg"]] * 2, [["0.jpg", "1.jpg", "2.jpg", "3.jpg"], ["4.jpg"]])
    for picture in [*data.splits["train"], *data.splits["val"]]:
        (found,) = picture.objects
        assert found["category"] == "cat" and found["bbox"] == pytest.approx(BOX) and picture.file.is_file()


def test_yolo_takes_lists_of_folders_and_of_images(tmp_path):
    yolo(tmp_path)
    (tmp_path / "val.txt").write_text("./valid/images/1.jpg\n\n")
    text = "path: .\ntrain: [train/images, valid/images]\nval: val.txt\nnames: {0: cat}\n"
    (tmp_path / "data.yaml").write_text(text)
    data = read_folder(tmp_path)
    assert [len(data.splits[name]) for name in ("train", "val")] == [4, 1]
    (tmp_path / "val.txt").write_text("none.jpg")
    with pytest.raises(DataError, match="val.txt lists .*none.jpg, and there is no such image"):
        read_folder(tmp_path)


def test_voc_lists_and_difficult_objects(tmp_path):
    voc(tmp_path)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n2 1\n")
    (lists / "val.txt").write_text("1\n")
    file = tmp_path / "Annotations/2.xml"
    file.write_text(file.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    data = read_folder(tmp_path)
    assert [p.file.stem for p in data.splits["train"]] == ["0", "2"] and len(data.splits["val"]) == 1
    assert [p.objects[0]["iscrowd"] for p in data.splits["train"]] == [0, 1]


def label_maps(root, values, mode="L", names=("images", "labels")):
    images(root / names[0], suffix=".png")
    folder = root / names[1]
    folder.mkdir()
    for i in range(5):
        array = np.zeros((HEIGHT, WIDTH, 3) if mode == "RGB" else (HEIGHT, WIDTH), np.uint8)
        array[: HEIGHT // 2] = values[0]
        array[HEIGHT // 2 :] = values[1]
        Image.fromarray(array, mode).save(folder / f"{i}.png")


@pytest.mark.parametrize(
    ("values", "mode", "table", "classes"),
    [
        ((0, 255), "L", {0: 0, 255: 1}, 2),
        ((2, 1), "L", {0: 0, 1: 1, 2: 2}, 3),
        (((9, 9, 9), (0, 200, 0)), "RGB", {(0, 200, 0): 0, (9, 9, 9): 1}, 2),
    ],
)
def test_label_maps(values, mode, table, classes, tmp_path):
    label_maps(tmp_path, values, mode)
    data = read_folder(tmp_path)
    assert (data.task, dict(data.table), len(data.classes)) == ("segment", table, classes)
    assert [len(data.splits[name]) for name in ("train", "val")] == [4, 1]
    image, label = data.splits["val"][0]
    assert image.parent.name == "images" and label.parent.name == "labels" and image.stem == label.stem == "4"


def test_colour_tables_name_the_classes_and_ignore_the_rest(tmp_path):
    label_maps(tmp_path, ((9, 9, 9), (0, 200, 0)), "RGB", ("train", "trainannot"))
    (tmp_path / "label_colors.txt").write_text("0 200 0\t\ttree\n# a remark\n9 9 9 void\n1 2 3 light sky\n")
    data = read_folder(tmp_path)
    assert list(data.classes) == ["tree", "light sky"] and dict(data.table) == {(0, 200, 0): 0, (1, 2, 3): 1}
    assert read_folder(tmp_path, "segment", ["a", "b"]).form == data.form


def test_class_folders(tmp_path):
    for name in ("cat", "dog"):
        images(tmp_path / name, 10)
    data = read_folder(tmp_path)
    assert (data.task, list(data.classes)) == ("classify", ["cat", "dog"])
    assert [len(data.splits[name]) for name in ("train", "val")] == [16, 4]
    assert [label for _, label in data.splits["val"]] == [0, 0, 1, 1]


def test_class_folders_in_splits(tmp_path):
    for split in ("train", "valid"):
        for name in ("cat", "dog"):
            images(tmp_path / split / name, 2)
    assert [len(read_folder(tmp_path).splits[name]) for name in ("train", "val")] == [4, 4]


def spoilt(make, file, text):
    def spoil(root):
        make(root)
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)

    return spoil


def without_images(root):
    roboflow(root)
    for name in ("0.jpg", "1.jpg"):
        (root / "valid" / name).unlink()


def classes_differ(root):
    for split, name in (("train", "cat"), ("train", "dog"), ("val", "cat"), ("val", "cow")):
        images(root / split / name, 1)


def other_size(root):
    label_maps(root, (0, 1))
    Image.new("L", (WIDTH, HEIGHT + 1)).save(root / "labels/3.png")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "holds nothing that is known"),
        (lambda root: images(root), "holds nothing that is known"),
        (
            spoilt(coco_folder, "labels.json", coco(prefix="none_")),
            "names the image none_0.jpg, and below .* not there",
        ),
        (spoilt(coco_folder, "other.json", coco()), "are both without a split in their names"),
        (without_images, "names the image 0.jpg"),
        (
            spoilt(roboflow, "valid/_annotations.coco.json", coco(2).replace('"cat"', '"dog"')),
            "has other categories than",
        ),
        (spoilt(roboflow, "valid/_annotations.coco.json", coco(0)), "its validation part holds no image"),
        (spoilt(yolo, "train/labels/0.txt", "0 0.1 0.1"), r"0.txt, line 1 has 2 coordinates: a box has 4"),
        (spoilt(yolo, "train/labels/0.txt", "3 .5 .5 .1 .1"), "line 1 has class 3, and data.yaml names 1"),
        (spoilt(yolo, "train/labels/0.txt", "0 50 50 10 10"), "a coordinate outside 0 to 1"),
        (spoilt(yolo, "train/labels/0.txt", "cat .5 .5 .1 .1"), "it needs a class number and fractions"),
        (spoilt(yolo, "data.yaml", "train: train/images"), "has no list of names"),
        (spoilt(yolo, "data.yaml", "train: train/images\nval: none\nnames: [cat]"), "val: none, and there is no such"),
        (spoilt(voc, "Annotations/1.xml", voc_text("1.jpg", size="20 40")), "says 20 x 40 pixels, and .* has 40 x 20"),
        (spoilt(voc, "Annotations/1.xml", voc_text("1.jpg", "<xmin>a</xmin>")), "1.xml: xmin is 'a'"),
        (spoilt(voc, "Annotations/1.xml", voc_text("none.jpg")), "1.xml names the image none.jpg"),
        (spoilt(voc, "Annotations/1.xml", "<annotation>"), "1.xml is not XML"),
        (spoilt(voc, "ImageSets/Main/train.txt", "9"), "train.txt names 9, and there is no 9.xml"),
        (classes_differ, "its classes differ from train's: cow, dog"),
    ],
)
def test_what_is_not_sound_is_one_sentence(make, sentence, tmp_path):
    make(tmp_path)
    with pytest.raises(DataError, match=sentence) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_voc_file_without_size_has_its_images(tmp_path):
    spoilt(voc, "Annotations/1.xml", voc_text("1.jpg").replace("<width>40</width>", ""))(tmp_path)
    assert len(read_folder(tmp_path).splits["train"]) == 4


def test_tasks(tmp_path):
    with pytest.raises(ConfigError, match="choose one of detect, segment, classify"):
        read_folder(tmp_path, "pose")
    with pytest.raises(DataError, match="is no folder"):
        read_folder(tmp_path / "none")
    voc(tmp_path)
    with pytest.raises(DataError, match="nothing that is known for task segment"):
        read_folder(tmp_path, "segment")
