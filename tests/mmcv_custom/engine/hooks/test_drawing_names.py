"""Drawings of images with equal names in different folders do not overwrite each other."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmcv_custom import DrawingNamesHook


class Images(list):
    """A data set of files."""

    def get_data_info(self, i):
        return dict(img_path=self[i])


@pytest.mark.parametrize(
    "method, name",
    [("add_datasample", "{name}"), ("visualize_cls", "{name}_0.png")],  # how mmdet and mmpretrain name drawings
)
@pytest.mark.parametrize(
    "images, drawings",
    [
        (["cat/0.png", "dog/0.png", "dog/1.png"], ["0.png", "0_2.png", "1.png"]),
        (["b/10/a.jpg", "b/9/a.jpg"], ["a_2.jpg", "a.jpg"]),
        (["a.jpg", "x/A.jpg", "x/a_2.jpg"], ["a.jpg", "A_3.jpg", "a_2.jpg"]),
    ],
)
def test_every_image_has_its_own_drawing(method, name, images, drawings):
    written = []
    visualizer = SimpleNamespace(**{method: lambda *args, out_file, **options: written.append(out_file)})
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=Images(images)), visualizer=visualizer)
    DrawingNamesHook().before_test(runner)
    for path in images:
        file = name.format(name=Path(path).name)
        getattr(runner.visualizer, method)("x", data_sample=dict(img_path=path), out_file=f"out/{file}", step=0)
    assert written == ["out/" + name.format(name=drawing) for drawing in drawings]


def test_drawings_that_go_to_no_file_stay_as_they_are():
    drawn = []
    visualizer = SimpleNamespace(add_datasample=lambda *args, **options: drawn.append(options["out_file"]))
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=Images()), visualizer=visualizer)
    DrawingNamesHook().before_test(runner)
    visualizer.add_datasample("x", data_sample={})
    assert drawn == [None]
