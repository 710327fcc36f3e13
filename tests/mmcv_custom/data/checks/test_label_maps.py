"""Checks of segmentation data sets against their config."""

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

import mmseg_custom  # noqa: F401 - registers the loader
from mmcv_custom import DataError
from mmcv_custom.data.checks import check_datasets, label_maps

CLASSES = ("sky", "road", "car")


def a_map(*labels, shape=(6, 8)):
    found = np.zeros(shape, np.uint8)
    found[0, : len(labels)] = labels
    return found


@pytest.fixture
def data(tmp_path):
    def make(labels=None, images=("a", "b"), labels_up_to=3, classes=CLASSES, num_classes=3, **dataset):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        for name in images:
            Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"{name}.png")
        for name, values in {**dict(a=a_map(2, 255), b=a_map(1)), **(labels or {})}.items():
            Image.fromarray(values).save(tmp_path / "labels" / f"{name}.png")
        load = dict(type="LoadAnnotations", **(dict(num_classes=labels_up_to) if labels_up_to else {}))
        return Config(
            dict(
                default_scope="mmseg",
                model=dict(decode_head=dict(num_classes=num_classes), auxiliary_head=[dict(num_classes=num_classes)]),
                train_dataloader=dict(
                    dataset=dict(
                        type="RepeatDataset",
                        times=2,
                        dataset=dict(
                            dict(
                                type="BaseSegDataset",
                                data_root=str(tmp_path),
                                img_suffix=".png",
                                metainfo=dict(classes=classes),
                                data_prefix=dict(img_path="images", seg_map_path="labels"),
                                pipeline=[load],
                            ),
                            **dataset,
                        ),
                    )
                ),
            )
        )

    return make


def test_labels_that_only_the_views_of_test_time_augmentation_load_are_checked_too(data):
    views = dict(
        type="TestTimeAug",
        transforms=[[dict(type="RandomFlip", prob=0.0)], [dict(type="LoadAnnotations", num_classes=3)]],
    )
    with pytest.raises(DataError, match="b.png has label 3 and there are 3 classes"):
        check_datasets(data(labels=dict(b=a_map(3)), pipeline=[views]))


@pytest.mark.parametrize("labels_up_to", [3, None], ids=["ours", "mmseg's"])
def test_what_fits_passes(data, labels_up_to):
    said = "classes in the 2 label maps of train_dataloader.dataset: "
    assert check_datasets(data(labels_up_to=labels_up_to)) == [said + "road in 1, car in 1, sky in 2"]
    cfg = data(labels=dict(a=a_map(3, 255), b=a_map(1, 2)), labels_up_to=labels_up_to, reduce_zero_label=True)
    assert check_datasets(cfg) == [said + "sky in 1, road in 1, car in 1"]


@pytest.mark.parametrize("labels_up_to", [3, None], ids=["ours", "mmseg's"])
@pytest.mark.parametrize(
    "change, message",
    [
        (dict(labels=dict(b=a_map(3, 9))), "b.png has label 3, 9 and there are 3 classes, labels 0 to 2"),
        (dict(labels=dict(b=a_map(4)), reduce_zero_label=True), "b.png has label 3 and"),
        (dict(labels=dict(b=a_map(1, shape=(8, 6)))), "b.png is 8 x 6 and its image 6 x 8 .height x width"),
        (dict(labels=dict(b=np.zeros((6, 8, 3), np.uint8))), "b.png is not a grey or palette image of 8 bits"),
        (dict(labels=dict(b=np.full((6, 8), 300, np.uint16))), "b.png is not a grey or palette image of 8 bits"),
        (dict(images=("a", "b", "c")), "1 of the 3 images of train_dataloader.dataset have no label map .*c.png"),
        (dict(img_suffix=".jpg"), "train_dataloader.dataset has no images: check its data_prefix and img_suffix"),
        (dict(data_prefix=dict(img_path="images", seg_map_path="nowhere")), "data_prefix .*nowhere does not exist"),
        (dict(data_prefix=dict(img_path="nowhere", seg_map_path="labels")), "data_prefix .*nowhere does not exist"),
        (dict(ann_file="list.txt"), "ann_file .*list.txt does not exist"),
        (dict(num_classes=150), "model.decode_head.num_classes is 150 and .* has 3 classes"),
        (dict(classes=()), "names no classes"),
    ],
)
def test_what_does_not_fit_is_one_sentence(data, labels_up_to, change, message):
    with pytest.raises(DataError, match=message):
        check_datasets(data(labels_up_to=labels_up_to, **change))


def test_the_pipelines_number_of_classes_is_the_data_sets(data):
    with pytest.raises(DataError, match=r"pipeline\[0\].num_classes is 3 and .* has 2 classes"):
        check_datasets(data(classes=CLASSES[:2], num_classes=2))


def test_listed_images_that_do_not_exist(data, tmp_path):
    (tmp_path / "list.txt").write_text("a\nz\n")
    with pytest.raises(DataError, match="1 of the 2 images of train_dataloader.dataset do not exist .*z.png"):
        check_datasets(data(ann_file="list.txt"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_label_maps_are_of_the_image_as_the_loader_turns_it(data, tmp_path, orientation, suffix):
    cfg = data(img_suffix=suffix)
    exif = Image.Exif()
    exif[0x112] = orientation
    for name in "ab":
        Image.new("RGB", (6, 8)).save(tmp_path / "images" / f"{name}{suffix}", exif=exif)
    if orientation in (6, 8) and suffix != ".webp":  # 8 wide and 6 high then, as the label maps
        assert check_datasets(cfg)[-1].endswith("sky in 2")
        return
    with pytest.raises(DataError, match="a.png is 6 x 8 and its image 8 x 6"):
        check_datasets(cfg)


def test_broken_files(data, tmp_path):
    cfg = data()
    (tmp_path / "images" / "b.png").write_bytes(b"none")
    with pytest.raises(DataError, match="images/b.png is no image that can be read"):
        check_datasets(cfg)


def test_every_data_set_of_a_split_is_checked(data):
    cfg = data(labels=dict(a=a_map(1), b=a_map(1)))
    good = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader.dataset = dict(
        type="ConcatDataset", datasets=[good, dict(good, data_prefix=dict(img_path="images", seg_map_path="elsewhere"))]
    )
    with pytest.raises(DataError, match="elsewhere does not exist"):
        check_datasets(cfg)


def test_of_a_large_data_set_some_pairs_are_read(data, monkeypatch):
    read = []
    monkeypatch.setattr(label_maps, "CHECKED", 2)
    monkeypatch.setattr(label_maps, "check_labels", lambda path, *_: [read.append(path[-5]), 0, 1][1:])
    names = "abcdef"
    _, classes = check_datasets(data(labels={name: a_map(0) for name in names}, images=names))
    assert read == ["a", "d"] and "classes in the 2 label maps" in classes


def test_all_pairs_of_a_large_data_set_are_read_where_one_class_was_found(data, monkeypatch):
    monkeypatch.setattr(label_maps, "CHECKED", 2)
    labels = {name: a_map(0) for name in "abcdef"} | dict(e=a_map(2))
    absent, classes = check_datasets(data(labels=labels, images=labels))
    assert absent == "no pixel of class road in the 5 label maps of train_dataloader.dataset"
    assert classes.endswith("road in 0, car in 1, sky in 5")


ZERO, ALL = np.zeros((6, 8), np.uint8), np.full((6, 8), 255, np.uint8)


@pytest.mark.parametrize("labels_up_to", [3, None], ids=["ours", "mmseg's"])
@pytest.mark.parametrize(
    "labels, change, message",
    [
        (
            dict(a=a_map(255), b=a_map(255)),
            {},
            "no pixel of class road, car in the 2 .* 255, .* if it means class road",
        ),
        (dict(a=a_map(1), b=a_map(1)), dict(reduce_zero_label=True), "road, car .* 2 of them hold 0 or 255.* write 2 "),
        (dict(a=ZERO, b=ZERO), {}, "no pixel of class road, car .*: one class alone teaches nothing"),
        (dict(a=ALL, b=ALL), {}, "all pixels of the 2 label maps .* ignored .* nothing to train on"),
        (dict(a=ZERO, b=ZERO), dict(reduce_zero_label=True), "ignored .label 0 or 255.*write 1 to 3 "),
    ],
)
def test_maps_of_less_than_two_classes_are_one_sentence(data, labels_up_to, labels, change, message):
    with pytest.raises(DataError, match=message):
        check_datasets(data(labels=labels, labels_up_to=labels_up_to, **change))


def test_maps_of_0_and_255_name_the_class_that_is_missing(data):
    cfg = data(labels=dict(a=a_map(255), b=a_map(255)), classes=("back", "thing"), num_classes=2, labels_up_to=None)
    with pytest.raises(DataError, match=r"no pixel of class thing .* write 1 .*merge=\[0\] \* 128 \+ \[1\] \* 128"):
        check_datasets(cfg)
    merged = dict(type="LoadAnnotations", num_classes=2, merge=[0] * 128 + [1] * 128)
    cfg.train_dataloader.dataset.dataset.pipeline = [merged]
    assert check_datasets(cfg)[-1].endswith("back in 2, thing in 2")


def test_a_class_of_more_that_never_occurs_is_said(data):
    absent, classes = check_datasets(data(labels=dict(a=a_map(1, 255), b=ZERO)))
    assert "no pixel of class car in the 2 label maps" in absent and "1 of them hold 255" in absent
    assert classes.endswith("car in 0, road in 1, sky in 2")


def test_maps_that_are_all_ignored_among_others_are_said(data):
    blank, *_ = check_datasets(data(labels=dict(a=ALL, b=a_map(1, 2))))
    assert blank.startswith("1 of the 2 label maps") and "a.png" in blank


def test_a_single_class_is_trained_on(data):
    cfg = data(labels=dict(a=ZERO, b=a_map(255)), classes=("thing",), num_classes=1, labels_up_to=None)
    assert len(check_datasets(cfg)) == 1


def test_in_evaluation_absent_classes_are_said_and_ignored_maps_refused(data):
    cfg = data(labels=dict(a=a_map(255), b=a_map(255)))
    cfg.val_dataloader = cfg.pop("train_dataloader")
    (sentence,) = check_datasets(cfg)
    assert "no pixel of class road, car in the 2 label maps of val_dataloader.dataset" in sentence
    cfg = data(labels=dict(a=ALL, b=ALL))
    cfg.val_dataloader = cfg.pop("train_dataloader")
    with pytest.raises(DataError, match="there is nothing to score"):
        check_datasets(cfg)


def test_images_that_the_data_set_leaves_out_are_named(data, tmp_path):
    cfg = data()
    for name in ("c.jpg", "D.PNG", ".b.png", "notes.txt", ".git/a.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    sentence, _ = check_datasets(cfg)
    assert sentence.endswith("img_suffix .png: D.PNG, c.jpg, .b.png, .git/, notes.txt")
    (tmp_path / "list.txt").write_text("a\nb\n")
    assert len(check_datasets(data(ann_file="list.txt"))) == 1  # a list leaves out by intent


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation, upright", [(6, True), (8, True), (5, True), (3, False), (1, False)])
def test_images_that_are_turned_when_loaded_fit_the_maps_of_the_turned(data, tmp_path, suffix, orientation, upright):
    shape = (8, 6) if upright else (6, 8)
    cfg = data(labels=dict(a=a_map(2, shape=shape), b=a_map(1, shape=shape)), images=(), img_suffix=f".{suffix}")
    exif = Image.Exif()
    exif[0x112] = orientation
    for name in "ab":
        Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"{name}.{suffix}", exif=exif)
    assert len(check_datasets(cfg)) == 1
    Image.fromarray(a_map(2, shape=shape[::-1])).save(tmp_path / "labels" / "b.png")
    with pytest.raises(DataError, match="b.png is"):
        check_datasets(cfg)


def test_a_label_map_that_is_cut_short_is_refused(data, tmp_path):
    config = data()
    path = tmp_path / "labels/a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (6, 8), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="a.png is no image that can be read"):
        check_datasets(config, ["train"])
