"""The converters that write one folder of images per class."""

import io
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script, run_script

SCRIPTS = Path(__file__).resolve().parents[3] / "tools" / "dataset_converters"


def load(name):
    return load_script(SCRIPTS / f"{name}.py")


cifar10, digits = load("cifar10"), load("digits")


def zipped(path, names, content=b"x"):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return path


GOOD = ["set/train/cat/0.jpg", "set/train/dog/1.PNG", "set/val/cat/2.jpg", "set/val/dog/3.jpg", "set/README", "a.png"]


def test_a_zip_of_class_folders(tmp_path):
    counts = cifar10.convert(zipped(tmp_path / "a.zip", GOOD), tmp_path / "out")
    assert counts == dict(train=2, val=2)
    files = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert files == ["train/cat/0.jpg", "train/dog/1.PNG", "val/cat/2.jpg", "val/dog/3.jpg"]
    assert (tmp_path / "out/val/cat/2.jpg").read_bytes() == b"x"


def official(path, drop=None, cut=0, label=None):
    """Write an archive of the official layout with three images per batch."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:

        def add(name, content):
            if name != drop:
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

        add("batches.meta.txt", b"airplane\nautomobile\n\n")
        drawn_images = {}
        for name in cifar10.PARTS:
            records = rng.integers(0, 256, (3, cifar10.RECORD), dtype=np.uint8)
            records[:, 0] = [0, 1, 1 if label is None else label]
            drawn_images[name] = records
            add(name, records.tobytes()[: len(records.tobytes()) - cut])
    return path, drawn_images


def test_the_official_file(tmp_path):
    path, drawn_images = official(tmp_path / "a.tar.gz")
    assert cifar10.convert(path, tmp_path / "out") == dict(train=15, val=3)
    image = cv2.imread(str(tmp_path / "out/train/automobile/data_batch_2_00001.png"))
    red, green, blue = drawn_images["data_batch_2.bin"][1, 1:].reshape(3, 32, 32)
    assert np.array_equal(image, np.stack([blue, green, red], axis=2))
    assert len(list((tmp_path / "out/val/automobile").iterdir())) == 2


def test_cifar10_twice(tmp_path):
    path, _ = official(tmp_path / "a.tar.gz")
    assert cifar10.convert(path, tmp_path / "out") == cifar10.convert(path, tmp_path / "out") == dict(train=15, val=3)
    other = zipped(tmp_path / "a.zip", GOOD)
    with pytest.raises(ValueError, match="already holds other files"):
        cifar10.convert(other, tmp_path / "out")
    cifar10.convert(other, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    "names, message",
    [
        (GOOD[:2], "2 train and 0 val images"),
        (GOOD[:3], "has class dog in one split only"),
        ([*GOOD, "set/test/cat/1.jpg"], "must lie in train/CLASS/ or val/CLASS/"),
        ([*GOOD, "train/../1.jpg"], "must lie in train/CLASS/ or val/CLASS/"),
    ],
)
def test_a_zip_of_another_layout_is_refused_and_leaves_nothing(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        cifar10.convert(zipped(tmp_path / "a.zip", names), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(drop="data_batch_3.bin"), "lacks data_batch_3.bin"),
        (dict(cut=1), "data_batch_1.bin in .* is incomplete"),
        (dict(label=2), "has label 2 of 2"),
    ],
)
def test_an_official_file_that_is_not_whole_is_refused(tmp_path, change, message):
    path, _ = official(tmp_path / "a.tar.gz", **change)
    with pytest.raises(ValueError, match=message):
        cifar10.convert(path, tmp_path / "out")


def test_cifar10_says_what_is_wrong(tmp_path):
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    good = zipped(tmp_path / "a.zip", GOOD)
    for source, out, message in (
        (tmp_path / "none", "out", "does not exist"),
        (tmp_path / "text", "out", "neither a zip"),
        (good, "full", "already holds other files"),
    ):
        done = run_script(SCRIPTS / "cifar10.py", source, tmp_path / out)
        assert done.returncode == 1 and done.stderr.startswith("cifar10: ") and message in done.stderr
        assert done.stderr.count("\n") == 1


def test_digits_are_the_samples_enlarged_each_once_and_in_one_split(tmp_path):
    assert digits.make(tmp_path / "out") == dict(train=1442, val=355)
    files = list((tmp_path / "out").rglob("*.png"))
    assert len({f.name for f in files}) == len(files) == 1797
    assert {f.parent.name for f in files} == set("0123456789")
    images, labels = digits.digit_samples()
    for file in files[::200]:
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        sample = int(file.stem)
        assert image.shape == (32, 32) and file.parent.name == str(labels[sample])
        small = cv2.resize(image[4:-4, 4:-4], (8, 8), interpolation=cv2.INTER_AREA) / 255
        assert np.corrcoef(small.ravel(), images[sample].ravel())[0, 1] > 0.95
        assert not image[:4].any() and not image[:, -4:].any()
    before = files[0].stat().st_mtime_ns
    assert digits.make(tmp_path / "out") == dict(train=1442, val=355) and files[0].stat().st_mtime_ns == before
    files[0].unlink()
    with pytest.raises(ValueError, match="already holds other files"):
        digits.make(tmp_path / "out")
