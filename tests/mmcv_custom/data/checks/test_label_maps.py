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
    def make(labels=None, images=("a", "b"), loader="LoadSegAnnotations", classes=CLASSES, num_classes=3, **dataset):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        for name in images:
            Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"{name}.png")
        for name, values in {**dict(a=a_map(2, 255), b=a_map(1)), **(labels or {})}.items():
            Image.fromarray(values).save(tmp_path / "labels" / f"{name}.png")
        load = dict(type=loader, num_classes=3) if loader == "LoadSegAnnotations" else dict(type=loader)
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
        transforms=[[dict(type="RandomFlip", prob=0.0)], [dict(type="LoadSegAnnotations", num_classes=3)]],
    )
    with pytest.raises(DataError, match="b.png has label 3 and there are 3 classes"):
        check_datasets(data(labels=dict(b=a_map(3)), pipeline=[views]))


@pytest.mark.parametrize("loader", ["LoadSegAnnotations", "LoadAnnotations"])
def test_what_fits_passes(data, loader):
    assert check_datasets(data(loader=loader)) == []
    assert check_datasets(data(labels=dict(a=a_map(3, 255)), loader=loader, reduce_zero_label=True)) == []


@pytest.mark.parametrize("loader", ["LoadSegAnnotations", "LoadAnnotations"])
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
def test_what_does_not_fit_is_one_sentence(data, loader, change, message):
    with pytest.raises(DataError, match=message):
        check_datasets(data(loader=loader, **change))


def test_the_pipelines_number_of_classes_is_the_data_sets(data):
    with pytest.raises(DataError, match=r"pipeline\[0\].num_classes is 3 and .* has 2 classes"):
        check_datasets(data(classes=CLASSES[:2], num_classes=2))


def test_listed_images_that_do_not_exist(data, tmp_path):
    (tmp_path / "list.txt").write_text("a\nz\n")
    with pytest.raises(DataError, match="1 of the 2 images of train_dataloader.dataset do not exist .*z.png"):
        check_datasets(data(ann_file="list.txt"))


def test_broken_files(data, tmp_path):
    cfg = data()
    (tmp_path / "images" / "b.png").write_bytes(b"none")
    with pytest.raises(DataError, match="images/b.png cannot be read"):
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
    monkeypatch.setattr(label_maps, "check_labels", lambda path, *_: read.append(path[-5]))
    names = "abcdef"
    assert check_datasets(data(labels={name: a_map(0) for name in names}, images=names)) == []
    assert read == ["a", "d"]
