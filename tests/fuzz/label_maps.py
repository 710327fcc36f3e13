"""Label maps of every kind, sound and broken, through the check before a run and the reader of own folders.

Shapes: label maps (h, w).
"""

import numpy as np
from fuzz.contract import Broken, Case
from PIL import Image

from mmcv_custom.data.checks.label_maps import check_label_maps
from mmcv_custom.own_data import Choices, LabelMaps, read_folder, write_configs
from mmcv_custom.own_data.label_maps import numbered

CLASSES = ("a", "b", "c")
COLOURS = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10], [1, 2, 3]], np.uint8)
FORMS = ("grey", "palette", "colours", "16 bits", "1 bit", "two channels", "jpeg")


def save(form: str, labels: np.ndarray, path) -> None:
    """Write labels (h, w) below 4 in one form."""
    image = Image.fromarray(labels)
    if form == "palette":
        image.putpalette(COLOURS.tobytes())
    elif form == "colours":
        image = Image.fromarray(COLOURS[labels])
    elif form == "16 bits":
        image = Image.fromarray(labels.astype(np.uint16) * 300)
    elif form == "1 bit":
        image = Image.fromarray(labels > 0)
    elif form == "two channels":
        image = image.convert("LA")
    image.save(path, "JPEG" if form == "jpeg" else "PNG")


def write(case: Case) -> tuple[str, list[np.ndarray], str]:
    """Write images and label maps; return the form, the labels of each map and what is broken, in words."""
    form = case.choose(*FORMS)
    images, maps, labels = case.folder / "data/images", case.folder / "data/labels", []
    for folder in (images, maps):
        folder.mkdir(parents=True)
    h, w = case.choose((1, 1), (9, 12), (30, 5))
    for i in range(6):
        Image.fromarray(case.numbers.integers(0, 255, (h, w, 3), np.uint8)).save(images / f"{i}.png")
        labels.append(case.numbers.integers(0, 3, (h, w)).astype(np.uint8))
        labels[-1].flat[: min(3, h * w)] = range(min(3, h * w))
        save(form, labels[-1], maps / f"{i}.png")
    how = case.choose(
        "sound", "sound", "size", "unknown", "missing", "cut", "empty", "folder", "ignored", "text", "mixed"
    )
    file, odd = maps / f"{case.random.randrange(6)}.png", case.numbers.integers(0, 3, (h, w)).astype(np.uint8)
    if how == "size":
        save(form, np.zeros((h + 1, w), np.uint8), file)
    elif how == "unknown":
        odd.flat[0] = 3
        save(form, odd, file)
    elif how == "missing":
        file.unlink()
    elif how == "cut":
        data = file.read_bytes()
        file.write_bytes(data[: case.random.randrange(max(len(data) - 24, 1))])  # before the last pixels
    elif how in ("empty", "text"):
        file.write_bytes(b"" if how == "empty" else b"no image")
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "ignored":
        Image.fromarray(np.full((h, w), 255, np.uint8)).save(file)
    elif how == "mixed":
        save(case.choose(*FORMS), odd, file)
    case.given = f"{form}, {h} x {w}, {how}"
    return form, labels, how


def run(case: Case) -> None:
    """Check the maps as a run does, and read them as own data."""
    form, labels, how = write(case)
    root = case.folder / "data"
    samples = [
        dict(img_path=str(root / f"images/{i}.png"), seg_map_path=str(root / f"labels/{i}.png"), seg_fields=[],
             reduce_zero_label=False, label_map=None)
        for i in range(6)
    ]  # fmt: skip
    said = case.allow(
        check_label_maps, samples, loader(), CLASSES, "train_dataloader.dataset", names=(str(root), "label map")
    )
    plain = form in ("grey", "palette")
    if how == "sound" and plain and said is None and labels[0].size > 1:
        raise Broken("sound label maps are refused")
    if said is not None and (
        how in ("size", "missing", "cut", "empty", "folder", "text") or form in ("colours", "16 bits")
    ):
        raise Broken(f"broken label maps are taken: {said}")
    names = (str(root.resolve()), str(root))
    data = case.allow(read_folder, root, case.choose(None, "segment"), names=names)
    if data is None:
        if how == "sound" and form in ("grey", "palette", "colours", "1 bit") and labels[0].size > 1:
            raise Broken("a sound folder is refused")
        return
    if not isinstance(data, LabelMaps):
        raise Broken(f"a folder of label maps is taken for {data.form}")
    table = data.table
    for pairs in data.splits.values():
        for image, file in pairs:
            read = case.allow(numbered, file, table, names=(str(file),))
            if how == "sound" and read is not None:
                right(read, labels[int(image.stem)], form)
    out = case.folder / "out"
    case.allow(write_configs, data, out, Choices(weights="w.pth"), names=(str(root.resolve()), str(out)))


def right(read: np.ndarray, labels: np.ndarray, form: str) -> None:
    """Raise Broken unless the labels were read; colours are numbered in the order of their values."""
    order = {"colours": np.array([0, 2, 1]), "1 bit": np.array([0, 1, 1])}.get(form, np.arange(3))
    if form in ("grey", "palette", "colours", "1 bit") and not np.array_equal(read, order[labels]):
        raise Broken(f"labels {np.unique(read)} are read and {np.unique(order[labels])} are right")


def loader():
    """Return mmseg's loader of label maps, as a config has it."""
    from mmseg.registry import TRANSFORMS

    import mmseg_custom  # noqa: F401

    return TRANSFORMS.build(dict(type="mmseg.LoadAnnotations"))  # whatever scope other kinds have left
