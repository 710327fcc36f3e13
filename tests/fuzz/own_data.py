"""Folders of images and labels as annotation tools write them, sound and broken, read and written as configs."""

import json
from pathlib import Path

import numpy as np
from fuzz.annotations import ODD, change, sound
from fuzz.contract import Broken, Case
from PIL import Image

from mmcv_custom.cli.config_file import read_file
from mmcv_custom.data.checks.coco import check_coco
from mmcv_custom.own_data import Choices, read_folder, write_configs

FORMS = ("coco", "roboflow", "yolo", "voc", "cvat", "labelme", "classes")
W, H = 40, 30


def images(folder: Path, names: list[str]) -> None:
    """Write grey images of W x H."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(folder / name)


def boxes(case: Case) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Return one to three objects: class name and x1, y1, x2, y2."""
    found = []
    for _ in range(case.choose(1, 2, 3)):
        x, y = case.random.randint(0, 20), case.random.randint(0, 14)
        found.append(
            (case.choose("cat", "dog"), (x, y, x + case.random.randint(2, 18), y + case.random.randint(2, 14)))
        )
    return found


def write(case: Case, form: str, root: Path) -> list[list]:
    """Write a sound folder of six images and return the objects of each."""
    names = [f"{i}.png" for i in range(6)]
    objects = [boxes(case) for _ in names]
    if form in ("coco", "roboflow"):
        content = sound(case)
        content["images"] = [dict(id=i + 1, file_name=n, width=W, height=H) for i, n in enumerate(names)]
        content["annotations"] = [
            dict(id=1 + i * 10 + j, image_id=i + 1, category_id=1 + (name == "dog"), iscrowd=0,
                 bbox=[x, y, r - x, b - y], area=(r - x) * (b - y), segmentation=[[x, y, r, y, r, b, x, b]])
            for i, found in enumerate(objects) for j, (name, (x, y, r, b)) in enumerate(found)
        ]  # fmt: skip
        images(root, names)
        (root / ("_annotations.coco.json" if form == "roboflow" else "labels.json")).write_text(json.dumps(content))
    if form == "yolo":
        images(root / "images", names)
        (root / "labels").mkdir()
        (root / "data.yaml").write_text("train: images\nval: images\nnames:\n  0: cat\n  1: dog\n")
        for name, found in zip(names, objects, strict=True):
            lines = [
                f"{int(label == 'dog')} {(x + r) / 2 / W} {(y + b) / 2 / H} {(r - x) / W} {(b - y) / H}"
                for label, (x, y, r, b) in found
            ]
            (root / "labels" / name.replace("png", "txt")).write_text("\n".join(lines) + "\n")
    if form == "voc":
        images(root / "JPEGImages", names)
        (root / "Annotations").mkdir()
        for name, found in zip(names, objects, strict=True):
            parts = [
                f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                f"<xmax>{r}</xmax><ymax>{b}</ymax></bndbox></object>"
                for label, (x, y, r, b) in found
            ]
            size = f"<size><width>{W}</width><height>{H}</height><depth>3</depth></size>"
            text = f"<annotation><filename>{name}</filename>{size}{''.join(parts)}</annotation>"
            (root / "Annotations" / name.replace("png", "xml")).write_text(text)
    if form == "cvat":
        images(root / "images", names)
        entries = [
            f'<image id="{i}" name="{name}" width="{W}" height="{H}">'
            + "".join(f'<box label="{n}" xtl="{x}" ytl="{y}" xbr="{r}" ybr="{b}"/>' for n, (x, y, r, b) in found)
            + "</image>"
            for i, (name, found) in enumerate(zip(names, objects, strict=True))
        ]
        (root / "annotations.xml").write_text(f"<annotations>{''.join(entries)}</annotations>")
    if form == "labelme":
        images(root, names)
        for name, found in zip(names, objects, strict=True):
            shapes = [
                dict(label=label, points=[[x, y], [r, b]], shape_type="rectangle") for label, (x, y, r, b) in found
            ]
            (root / name.replace("png", "json")).write_text(json.dumps(dict(imagePath=name, shapes=shapes)))
    if form == "classes":
        images(root / "cat", names)
        images(root / "dog", names)
    return objects


def damage(case: Case, root: Path) -> str:
    """Change one thing in the folder and return what, in words."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    labels = [p for p in files if p.suffix != ".png"]
    file = case.random.choice(labels if labels and case.random.random() < 0.8 else files)
    how = case.choose("delete", "empty", "cut", "bytes", "word", "word", "word", "json", "BOM", "folder", "double")
    data = file.read_bytes()
    name = file.relative_to(root)
    if how == "delete":
        file.unlink()
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "double":
        (file.parent / f"copy{file.suffix}").write_bytes(data)
    elif how == "json" and file.suffix == ".json":
        try:
            content = json.loads(data)
            how = f"json {change(case, content)}"
            file.write_text(json.dumps(content))
        except (ValueError, IndexError):
            return f"nothing in {name}"
    elif how == "word" and file.suffix in (".xml", ".txt", ".yaml", ".json"):
        words = data.decode(errors="replace").replace(">", "> ").replace("<", " <").replace('"', ' " ').split(" ")
        at, new = case.random.randrange(len(words)), str(case.choose(*ODD, "<x>", "</object>", ": [", "-5", "1e9"))
        how = f"word {words[at][:20]!r} -> {new[:20]!r}"
        words[at] = new
        file.write_text(" ".join(words).replace(' " ', '"').replace("> ", ">").replace(" <", "<"), errors="replace")
    else:
        file.write_bytes(
            {
                "empty": b"",
                "cut": data[: case.random.randrange(len(data) + 1)],
                "BOM": b"\xef\xbb\xbf" + data,
            }.get(how, case.random.randbytes(40) + data[40:])
        )
    return f"{how} of {name}"


def run(case: Case) -> None:
    """Read one folder; where it is read, write its configs, read those and check their labels."""
    root, form = case.folder / "data", case.choose(*FORMS)
    root.mkdir()
    objects = write(case, form, root)
    broken = [
        damage(case, root) for _ in range(case.choose(0, 1, 1, 1, 2)) if any(p.is_file() for p in root.rglob("*"))
    ]
    case.given = f"{form}: {'; '.join(broken) or 'sound'}"
    names = (str(root.resolve()), str(root))
    data = case.allow(read_folder, root, case.choose(None, "detect" if form != "classes" else "classify"), names=names)
    if data is None:
        if not broken:
            raise Broken("a sound folder is refused")
        return
    if not broken and form != "classes":
        found = sorted(
            (p.file.name, o["category"], *(round(float(v)) for v in o["bbox"]))
            for pictures in data.splits.values()
            for p in pictures
            for o in p.objects
        )
        wanted = sorted((f"{i}.png", n, x, y, r - x, b - y) for i, o in enumerate(objects) for n, (x, y, r, b) in o)
        if found != wanted:
            raise Broken(f"read {found[:4]} and {wanted[:4]} is right")
    out = case.folder / "out"
    paths = case.allow(write_configs, data, out, Choices(), names=(str(root.resolve()), str(out)))
    if paths is None:
        if not broken:
            raise Broken("no configs can be written for a sound folder")
        return
    if case.random.random() < 0.05:
        for path in paths.values():
            read_file(path)
    if data.task == "detect":
        for name in ("train", "val"):
            if any(p.objects for p in data.splits[name]):
                file = str(out / f"labels/{name}.json")
                case.allow(check_coco, file, tuple(data.classes), "d", name == "train", data.masks, names=(file,))
