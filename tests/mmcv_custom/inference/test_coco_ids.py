"""Image and category ids of an annotation file: found by name, and one sentence where that is not possible."""

import json

import pytest

from mmcv_custom import DataError
from mmcv_custom.inference.coco_ids import CocoIds


@pytest.fixture
def ids(tmp_path):
    def make(images=(), categories=()):
        table = dict(
            images=[dict(id=number, file_name=name) for number, name in images],
            annotations=[],
            categories=[dict(id=number, name=name) for number, name in categories],
        )
        (tmp_path / "ann.json").write_text(json.dumps(table))
        return CocoIds(tmp_path / "ann.json")

    return make


def test_images_are_found_by_the_longest_name_that_fits(ids, tmp_path):
    known = ids([(7, "a.png"), (0, "val/a.png"), (3, "./train/b.png"), (4, "c/d.png")])
    assert known.image(tmp_path / "val" / "a.png") == 0
    assert known.image("a.png") == known.image("elsewhere/a.png") == 7
    assert known.image("train/b.png") == 3
    assert known.image("copied/d.png") == 4  # the only one of that name


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("z.png", "image z.png has no id: annotation file .*ann.json lists no image of that name"),
        ("c/a.png", "lists 2 images of that name"),
        ("twice.png", "lists 2 images of that name"),
    ],
)
def test_images_without_one_id_are_one_sentence(ids, name, sentence):
    known = ids([(1, "x/a.png"), (2, "y/a.png"), (3, "twice.png"), (4, "twice.png")])
    with pytest.raises(DataError, match=sentence):
        known.image(name)


def test_categories_are_found_by_the_names_of_the_classes(ids):
    known = ids(categories=[(18, "dog"), (0, "cat"), (5, "cow")])
    assert known.categories(("cat", "dog")) == [0, 18]
    with pytest.raises(DataError, match="has no category hen, which the model finds"):
        known.categories(("cat", "hen"))
    with pytest.raises(DataError, match="names of the model's classes are unknown"):
        known.categories(())


@pytest.mark.parametrize(("number", "name"), [("1", "a.png"), (None, "a.png"), (1, None), (1.0, "a.png")])
def test_entries_without_number_or_name_are_refused(ids, number, name):
    with pytest.raises(DataError, match="without a file_name or a whole number as id: .*check_coco.py"):
        ids([(number, name)])
