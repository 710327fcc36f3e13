"""Class folders with hidden folders, files of other suffixes and empty classes."""

import pytest
from mmengine.config import Config

pytest.importorskip("mmpretrain")

from mmengine.registry import DATASETS  # noqa: E402

import mmpretrain_custom  # noqa: E402, F401 - registers the data set
from mmcv_custom import DataError  # noqa: E402
from mmcv_custom.data.checks import check_datasets  # noqa: E402


@pytest.fixture
def folders(tmp_path):
    def make(*names, kind="CustomDataset", number=2, **dataset):
        for name in names:
            path = tmp_path / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if name.endswith("/") else path.write_bytes(b"")
        split = dict(
            dict(type=kind, data_root=str(tmp_path), data_prefix="train/", pipeline=[], serialize_data=False), **dataset
        )
        model = dict(backbone=dict(num_classes=number))
        return Config(dict(default_scope="mmpretrain", model=model, train_dataloader=dict(dataset=split)))

    return make


def loaded(cfg):
    with DATASETS.switch_scope_and_registry("mmpretrain") as registry:
        built = registry.build(cfg.train_dataloader.dataset)
    return [(sample["img_path"].split("train/")[1], sample["gt_label"]) for sample in built]


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints/1.png", "__MACOSX/._1.png", "@eaDir/1.png", ".DS_Store"])
def test_what_is_hidden_beside_classes_is_no_class(folders, hidden):
    cfg = folders("cat/1.png", "dog/1.png", hidden)
    (sentence,) = check_datasets(cfg, ["train"])
    assert f": {hidden.split('/')[0]}" in sentence and "left out of" in sentence
    assert loaded(cfg) == [("cat/1.png", 0), ("dog/1.png", 1)]


def test_what_is_hidden_in_a_class_is_not_trained_on(folders):
    cfg = folders("cat/1.png", "cat/.ipynb_checkpoints/1-checkpoint.png", "dog/deep/1.png", "dog/._1.png")
    (sentence,) = check_datasets(cfg, ["train"])
    assert "cat/.ipynb_checkpoints/, dog/._1.png" in sentence
    assert loaded(cfg) == [("cat/1.png", 0), ("dog/deep/1.png", 1)]


@pytest.mark.parametrize("suffix", ["webp", "gif", "jfif", "avif", "tiff", "WEBP"])
def test_a_class_of_any_suffix_that_is_read_is_trained_on(folders, suffix):
    cfg = folders("cat/1.png", f"dog/1.{suffix}")
    assert check_datasets(cfg, ["train"]) == []
    assert loaded(cfg) == [("cat/1.png", 0), (f"dog/1.{suffix}", 1)]


@pytest.mark.parametrize(
    "names, options",
    [
        (("cat/1.png", "dog/1.heic", "dog/2.heic"), {}),
        (("cat/1.png", "dog/1.jpg", "dog/2.jpg"), dict(extensions=(".png",))),
        (("cat/1.png", "dog/1.webp", "dog/2.webp"), dict(kind="ImageNet")),
    ],
)
def test_a_class_of_suffixes_that_are_not_taken_is_one_sentence(folders, names, options):
    with pytest.raises(DataError, match=r"class dog would have no images, .* none of the 2 files .*extensions"):
        check_datasets(folders(*names, **options), ["train"])


def test_single_files_that_are_not_taken_are_named(folders):
    (sentence,) = check_datasets(folders("cat/1.png", "dog/1.png", "dog/2.heic", "labels.csv"), ["train"])
    assert sentence.endswith("labels.csv, dog/2.heic")


def test_a_class_without_images_is_named(folders):
    (sentence,) = check_datasets(folders("cat/1.png", "dog/"), ["train"])
    assert "no images of class dog" in sentence


def test_a_class_too_many_is_named(folders):
    with pytest.raises(DataError, match="3 class folders .* is 2: make them equal .the folders are cat, dog, old"):
        check_datasets(folders("cat/1.png", "dog/1.png", "old/1.png"), ["train"])
