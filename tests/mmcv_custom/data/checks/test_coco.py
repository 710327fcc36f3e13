import json

import pytest
from mmengine.config import Config
from PIL import Image

from mmcv_custom import DataError
from mmcv_custom.data.checks import check_datasets

pytest.importorskip("mmdet")
BOX = dict(bbox=[0, 0, 4, 4], area=16, iscrowd=0)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.jpg")

    def make(classes=("cat", "dog"), num_classes=2, categories=("cat", "dog"), used=(1,), images=("a.jpg",), **dataset):
        content = dict(
            images=[dict(id=i, file_name=n, height=8, width=8) for i, n in enumerate(images)],
            categories=[dict(id=i + 1, name=n) for i, n in enumerate(categories)],
            annotations=[dict(BOX, id=i, image_id=0, category_id=c) for i, c in enumerate(used)],
        )
        (tmp_path / "ann.json").write_text(json.dumps(content))
        return Config(
            dict(
                default_scope="mmdet",
                model=dict(rpn_head=dict(num_classes=1), roi_head=dict(bbox_head=dict(num_classes=num_classes))),
                train_dataloader=dict(
                    dataset=dict(
                        type="RepeatDataset",
                        times=2,
                        dataset=dict(
                            dict(
                                type="CocoDataset",
                                data_root=str(tmp_path),
                                ann_file="ann.json",
                                data_prefix=dict(img="images/"),
                                metainfo=dict(classes=classes),
                            ),
                            **dataset,
                        ),
                    )
                ),
            )
        )

    return make


def test_what_fits_passes_and_is_counted(data, tmp_path):
    (said,) = check_datasets(data(used=(1, 2)))
    assert said == f"{tmp_path}/ann.json: 2 of 2 annotations are learned"


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(ann_file="none.json"), "ann_file .*none.json does not exist"),
        (dict(data_prefix=dict(img="nowhere/")), "data_prefix .*nowhere/ does not exist"),
        (dict(images=("b.jpg",)), "1 of the 1 images of .* are not in .*b.jpg"),
        (dict(images=()), "lists no images"),
        (dict(used=()), "no annotation of the 2 classes"),
        (
            dict(used=(9,)),
            "1 annotations of an unknown category .id 0: category_id 9.; its categories are 1 .cat., 2 .dog.",
        ),
        (dict(classes=("cat", "bird"), categories=("cat", "dog")), "bird of .* is not among the categories"),
        (dict(classes=("dog", "cat")), "not in the order"),
        (dict(classes="cat"), r"write a tuple, \('cat',\)"),
        (dict(num_classes=80), "model.roi_head.bbox_head.num_classes is 80 and .* has 2 classes"),
        (dict(metainfo={}), "person, bicycle, car, motorcycle, airplane and 73 more .*"),
        (dict(categories=("cat", "dog", "owl"), used=(3,)), "nothing to train on"),
    ],
)
def test_what_does_not_fit_is_one_sentence(data, change, message):
    with pytest.raises(DataError, match=message):
        check_datasets(data(**change))


def test_a_subset_of_the_categories_is_reported(data):
    (said,) = check_datasets(data(categories=("cat", "dog", "owl"), used=(1, 3)))
    assert said.endswith(
        "1 of 2 annotations are learned (cat 1); skipped: 1 of categories that are not among metainfo.classes (owl 1); "
        "none of dog"
    )


def test_broken_file(data, tmp_path):
    cfg = data()
    (tmp_path / "ann.json").write_text("[1")
    with pytest.raises(DataError, match="not JSON"):
        check_datasets(cfg)
    (tmp_path / "ann.json").write_text("{}")
    with pytest.raises(DataError, match="not in COCO format"):
        check_datasets(cfg)


@pytest.fixture
def folders(tmp_path):
    """Make a config of class folders; ``train`` and ``val`` list their classes and whether these hold an image."""
    pytest.importorskip("mmpretrain")

    def make(train=("cat", "dog"), val=("cat", "dog"), num_classes=2, filled=True, **dataset):
        for split, names in (("train", train), ("val", val)):
            (tmp_path / split).mkdir()
            for name in names or ():
                (tmp_path / split / name).mkdir()
                if filled:
                    (tmp_path / split / name / "a.png").write_bytes(b"")
        loaders = {
            f"{split}_dataloader": dict(
                dataset=dict(dict(type="CustomDataset", data_root=str(tmp_path), data_prefix=split), **dataset)
            )
            for split in ("train", "val")
        }
        return Config(dict(default_scope="mmpretrain", model=dict(backbone=dict(num_classes=num_classes)), **loaders))

    return make


def test_class_folders_that_fit_pass(folders):
    assert check_datasets(folders()) == []


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(data_prefix="none"), "data_prefix .*none does not exist"),
        (dict(data_root="nowhere"), "nowhere/train does not exist"),
        (dict(train=()), "train has no class folders"),
        (dict(filled=False), "the 2 class folders of .*train are empty"),
        (dict(num_classes=3), "2 class folders and model.backbone.num_classes is 3: make them equal"),
        (
            dict(val=("cat", "fox")),
            "only one of .*val and .*train has a class folder dog, which would shift the labels",
        ),
    ],
)
def test_class_folders_that_do_not_fit(folders, change, message):
    with pytest.raises(DataError, match=message):
        check_datasets(folders(**change))


def test_imagenets_own_layout(folders, tmp_path):
    cfg = folders(num_classes=3)
    for split in ("train", "val"):
        cfg[f"{split}_dataloader"].dataset.update(type="ImageNet", split=split, data_prefix="")
    with pytest.raises(DataError, match="train has 2 class folders"):
        check_datasets(cfg)
    (tmp_path / "meta").mkdir()
    for split in ("train", "val"):  # lists of files are read instead of the folders' names
        (tmp_path / "meta" / f"{split}.txt").write_text("cat/a.png 0")
    assert check_datasets(cfg) == []
