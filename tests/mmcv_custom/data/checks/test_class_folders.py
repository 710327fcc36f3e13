"""Class folders with hidden folders, files of other suffixes and empty classes."""

import pytest
from mmengine.config import Config
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.registry import DATASETS, FUNCTIONS  # noqa: E402

import mmpretrain_custom  # noqa: E402, F401 - registers the data set
from mmcv_custom import DataError  # noqa: E402
from mmcv_custom.data.checks import check_datasets, class_folders  # noqa: E402


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


@pytest.fixture
def sized(folders, tmp_path):
    """Make a config whose images have the ``sizes`` (width, height) and pass the ``steps``."""

    def make(*sizes, steps=(), batch_size=2):
        cfg = folders("cat/", "dog/")
        for i, size in enumerate(sizes):
            exif = Image.Exif()
            exif[0x112] = 6 if len(size) == 3 else 1
            Image.new("RGB", size[:2]).save(tmp_path / "train" / ("cat", "dog")[i % 2] / f"{i}.jpg", exif=exif)
        cfg.train_dataloader.dataset.pipeline = [dict(type="LoadImageFromFile"), *steps, dict(type="PackInputs")]
        cfg.train_dataloader.update(batch_size=batch_size, collate_fn=dict(type="default_collate"))
        return cfg

    return make


CROP = dict(type="RandomCrop", crop_size=32, padding=3)


@pytest.mark.parametrize(
    "sizes, steps",
    [
        ([(32, 32), (32, 32), (40, 24)], [CROP]),
        ([(32, 32), (32, 32), (40, 32)], []),
        ([(40, 32), (40, 32, "turned")], []),
        ([(64, 32), (32, 64)], [dict(type="ResizeEdge", scale=16)]),
    ],
)
def test_images_that_cannot_be_stacked_are_one_sentence(sized, sizes, steps):
    with pytest.raises(
        DataError, match=r"train_dataloader.dataset gives .*[0-2].jpg .* do not fit into one batch: crop"
    ):
        check_datasets(sized(*sizes, steps=steps), ["train"])


@pytest.mark.parametrize(
    "sizes, options",
    [
        ([(32, 32), (40, 40)], dict(steps=[CROP])),
        ([(64, 32), (32, 64), (9, 9)], dict(steps=[dict(type="Resize", scale=(16, 16))])),
        ([(40, 32), (32, 40, "turned")], {}),
        ([(40, 32), (32, 40)], dict(batch_size=1)),
    ],
)
def test_images_that_can_be_stacked_pass(sized, sizes, options):
    assert check_datasets(sized(*sizes, **options), ["train"]) == []


def test_of_many_images_those_that_were_not_read_are_checked_in_their_batch(sized, monkeypatch):
    monkeypatch.setattr(class_folders, "CHECKED", 2)
    cfg = sized((32, 32), (32, 32), (32, 32), (40, 32))  # cat has the first and third
    assert check_datasets(cfg, ["train"]) == []
    with DATASETS.switch_scope_and_registry("mmpretrain") as registry:
        samples = list(registry.build(cfg.train_dataloader.dataset))
    collate = FUNCTIONS.get("default_collate")
    assert collate(samples[:3])["inputs"].shape == (3, 3, 32, 32)
    with pytest.raises(DataError, match=r"0.jpg 32 x 32 .*3.jpg 32 x 40 .height x width., which do not fit"):
        collate([samples[0], samples[3]])
    assert collate([1, 2]).tolist() == [1, 2]
