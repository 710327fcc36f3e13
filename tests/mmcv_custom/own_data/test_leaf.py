"""mmcv_custom.own_data: the configs that are written build, and read the images that the folder holds."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from mmcv_custom.cli.config_check import check_config
from mmcv_custom.cli.config_file import read_file
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.own_data import Choices, ClassFolders, LabelMaps, Objects, Picture, write_configs
from mmcv_custom.own_data.label_maps import numbered
from mmcv_custom.own_data.leaf import coco_content

BOX = [4.0, 2.0, 20.0, 10.0]


def image(folder, name="a.png", size=(40, 20)):
    Image.fromarray(np.full((size[1], size[0], 3), 100, np.uint8)).save(folder / name)
    return folder / name


def objects(folder, **more):
    pictures = [Picture(image(folder, f"{i}.png"), [dict(category="cat", bbox=BOX, **more)]) for i in range(2)]
    return Objects("a test", ["dog", "cat"], dict(train=pictures[:1], val=pictures[1:]))


def maps(folder):
    label = np.zeros((20, 40), np.uint8)
    label[:10] = 255
    (folder / "labels").mkdir()
    Image.fromarray(label).save(folder / "labels/a.png")
    pair = (image(folder, "a.jpg"), folder / "labels/a.png")
    return LabelMaps("a test", ["back", "front"], dict(train=[pair], val=[pair]), {0: 0, 255: 1})


def classes(folder):
    return ClassFolders(
        "a test", ["a", "b"], {name: [(image(folder), 0), (image(folder), 1)] for name in ("train", "val")}
    )


def read_and_build(paths):
    """Return the first training sample of the dense config; both models are built without storage."""
    from mmengine.registry import DATASETS, MODELS

    sample = None
    for path in paths.values():
        cfg = read_file(path)
        check_config(cfg)
        init_default_scope(cfg.default_scope)
        with torch.device("meta"):
            cfg.model.backbone.pop("init_cfg", None)
            MODELS.build(cfg.model)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            dataset = DATASETS.build(loader.dataset)
            sample = sample or dataset[0]
    return sample


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("size", ["t", "s"])
def test_detection(masks, size, tmp_path):
    more = dict(segmentation=[[4.0, 2.0, 24.0, 2.0, 24.0, 12.0]]) if masks else {}
    data = objects(tmp_path, **more)
    assert data.masks == masks
    paths = write_configs(data, tmp_path / "work", Choices(size=size, weights="vit.safetensors", side=64))
    cfg = read_file(paths["pruned"])
    assert cfg.model.backbone.reducer.type == "SViT" and cfg.load_from.endswith("dense/epoch_12.pth")
    assert cfg.model.type == ("PrunedMaskRCNN" if masks else "PrunedFasterRCNN")
    assert cfg.val_evaluator.metric == (["bbox", "segm"] if masks else ["bbox"])
    found = read_and_build(paths)["data_samples"].gt_instances
    assert found.labels.tolist() == [1] and ("masks" in found) == masks


def test_boxes_are_clipped_and_empty_ones_refused(tmp_path):
    data = objects(tmp_path)
    data.splits["train"][0].objects = [dict(category="cat", bbox=[-4, 10, 20, 20]), dict(category="cow", bbox=BOX)]
    (found,) = coco_content(data, "train")["annotations"]
    assert found["bbox"] == [0, 10, 16, 10] and found["area"] == 160 and found["category_id"] == 2
    data.splits["train"][0].objects = [dict(category="cat", bbox=[50, 0, 5, 5])]
    with pytest.raises(DataError, match=r"0.png: a box \(50, 0, 5, 5\) lies outside"):
        coco_content(data, "train")


def test_segmentation(tmp_path):
    paths = write_configs(maps(tmp_path), tmp_path / "work", Choices(weights="vit.safetensors", side=64))
    assert read_file(paths["pruned"]).model.backbone.reducer == dict(type="ToMe", r=0.066)
    label = read_and_build(paths)["data_samples"].gt_sem_seg.data
    assert set(label.unique().tolist()) <= {0, 1, 255} and label.shape[1:] == (64, 64)
    written = np.asarray(Image.open(tmp_path / "work/labels/maps_val/a.png"))
    assert (written[:10] == 1).all() and (written[10:] == 0).all()


def test_label_maps_of_another_size_are_refused(tmp_path):
    data = maps(tmp_path)
    Image.new("L", (40, 21)).save(tmp_path / "labels/a.png")
    with pytest.raises(DataError, match="a.png has 40 x 21 pixels and .*a.jpg has 40 x 20"):
        write_configs(data, tmp_path / "work", Choices(weights="vit.safetensors"))


def test_two_images_of_one_name_are_refused(tmp_path):
    data = maps(tmp_path)
    data.splits["train"] *= 2
    with pytest.raises(DataError, match="two images to train are called a"):
        write_configs(data, tmp_path / "work", Choices(weights="vit.safetensors"))


def test_values_that_are_in_no_table_are_ignored(tmp_path):
    array = np.array([[[9, 9, 9], [0, 200, 0]]], np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    assert numbered(tmp_path / "a.png", {(0, 200, 0): 3}).tolist() == [[255, 3]]


def test_classification(tmp_path):
    paths = write_configs(classes(tmp_path), tmp_path / "work", Choices("evit", weights="start.safetensors", side=70))
    cfg = read_file(paths["pruned"])
    assert cfg.model.backbone.reducer.type == "EViT" and cfg.model.backbone.num_classes == 2
    assert read_and_build(paths)["inputs"].shape == (3, 70, 70)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (Choices("pruning"), "--method pruning: choose one of .*tome"),
        (Choices(size="s"), "--size s: for this task choose t"),
        (Choices(side=8), "the image size must be at least 64"),
        (Choices(epochs=(0, 1)), "the batch and the epochs at least 1"),
    ],
)
def test_choices_out_of_range(choices, sentence, monkeypatch):
    from mmcv_custom.own_data import leaf

    monkeypatch.setitem(leaf.SIZES, "detect", ("t",))
    with pytest.raises(ConfigError, match=sentence):
        choices.filled("detect")
