"""Which files of a folder are images, in which order, under which names, and their size as the loader gives it."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.fileio import list_dir_or_file
from PIL import Image

from mmcv_custom import DataError, LoadImageFromFile
from mmcv_custom.data.image_files import images_in, list_folder, loaded_size, natural, unique_names
from mmcv_custom.inference.predictor import image_files


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def listed(folder, say=None):
    return [path.relative_to(folder).as_posix() for path in images_in(folder, say)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif", "jfif", "avif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_the_loaders_whatever_the_file_and_its_orientation(tmp_path, suffix, orientation):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x112] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert loaded_size(path) == LoadImageFromFile()(dict(img_path=str(path)))["img_shape"][::-1]


def test_an_orientation_that_the_loader_does_not_read_turns_nothing(tmp_path):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    for name, extra in dict(xmp=dict(xmp=xmp), broken=dict(exif=b"Exif\0\0none")).items():
        path = tmp_path / f"{name}.jpg"
        Image.new("RGB", (30, 20)).save(path, **extra)
        assert loaded_size(path) == (30, 20) == LoadImageFromFile()(dict(img_path=str(path)))["img_shape"][::-1]


def test_what_has_no_size_is_one_sentence(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"none")
    with pytest.raises(DataError, match="a.jpg is no image that can be read .*: save it again"):
        loaded_size(tmp_path / "a.jpg")
    (tmp_path / "c.pgm").write_bytes(b"P5\n7 2\x0e255\n" + bytes(14))
    with pytest.raises(DataError, match="c.pgm is no image that can be read .its header is damaged.: save it again"):
        loaded_size(tmp_path / "c.pgm")
    with pytest.raises(DataError, match="b.jpg does not exist: check the path"):
        loaded_size(tmp_path / "b.jpg")


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    fill(tmp_path, *(f"{i}.png" for i in range(1, 13)))
    assert listed(tmp_path) == [f"{i}.png" for i in range(1, 13)]


@pytest.mark.parametrize(
    "names",
    [
        ["img-2.png", "img-10.png"],
        ["a1b2.png", "a1b10.png", "a2b1.png"],
        ["f_009.png", "f_10.png", "f_0011.png"],
        ["1", "a", "a1", "b"],
        ["3/9.png", "20/1.png"],
        ["²1", "²2"],
    ],
)
def test_natural_order(names):
    assert sorted(sorted(names), key=natural) == names


def test_hidden_and_other_files_are_left_out_and_named(tmp_path):
    fill(tmp_path, "b.png", "a.JPG", "c.webp", "._b.png", ".ipynb_checkpoints/b.png", "notes.txt", "more/d.png")
    said = []
    assert listed(tmp_path, said.append) == ["a.JPG", "b.png", "c.webp"]
    assert len(said) == 1 and said[0].endswith("read: ._b.png, .ipynb_checkpoints/, more/, notes.txt")
    with pytest.warns(UserWarning, match="left out of .*notes.txt"):  # so Predictor says it
        assert len(image_files(tmp_path)) == 3


def test_of_subfolders_hidden_ones_are_left_out_too(tmp_path):
    fill(tmp_path, "cat/1.png", "cat/10.png", "cat/2.png", "dog/1.heic", "dog/3.png", "__MACOSX/1.png", ".git/1.png")
    said = []
    assert listed(tmp_path, said.append) == ["cat/1.png", "dog/3.png", "cat/2.png", "cat/10.png"]
    assert all(name in said[0] for name in (".git/", "__MACOSX/", "dog/1.heic"))
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    assert list_folder(tmp_path, deep=True)[1] == [".git/", "__MACOSX/", "broken.png", "dog/1.heic"]


def test_data_sets_of_all_classes_list_no_hidden_folders(tmp_path):
    fill(tmp_path, "a/1.png", "a/.thumbs/1.png", ".git/1.png", "a/@eaDir/1.png", ".1.png")
    assert sorted(list_dir_or_file(tmp_path, list_dir=False, recursive=True)) == ["a/1.png"]
    assert list(list_dir_or_file(tmp_path, list_file=False)) == ["a"]


def test_equal_names_become_unique_and_others_stay():
    assert unique_names(["a", "a", "b", "a_2", "A"]) == ["a", "a_3", "b", "a_2", "A_4"]
    names = unique_names([Path(f"{folder}/0.png").stem for folder in ("cat", "dog", "fox")])
    assert names == ["0", "0_2", "0_3"]


@pytest.mark.parametrize("suffix", ["webp", "gif", "jfif", "jp2", "tiff", "ppm", "avif"])
def test_listed_suffixes_are_loaded(tmp_path, suffix):
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / f"a.{suffix}")
    (path,) = images_in(tmp_path)
    assert np.abs(LoadImageFromFile()(dict(img_path=str(path)))["img"].astype(int) - 90).max() < 8
