"""Plot whether a method keeps more tokens in images with more content.

    python tools/analysis_tools/plot_content.py CONFIG CHECKPOINT --number 200 --out work_dirs/content
    python tools/analysis_tools/plot_content.py CONFIG CHECKPOINT --classes car pedestrian bicyclist

For each annotated image: the fraction of it that objects cover, against the fraction of its tokens that the pruned
blocks compute, with a fitted line and Pearson's correlation. Images and annotations are those of the config's
val_dataloader (--cfg-options val_dataloader.dataset.data_root=... selects others). Covered is, for a detector, the
union of the masks (of the boxes where there are no masks); for a segmentor, the pixels of the classes that are objects,
by default all except one named background. Writes content.json and content.png.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import DictAction
from mmengine.registry import DATASETS, TRANSFORMS
from tqdm import tqdm

from mmcv_custom.cli.launch import read_config, run
from mmcv_custom.data.checks.datasets import check_datasets, steps_of
from mmcv_custom.errors import ConfigError, DataError, building_from_config
from mmcv_custom.files import replacing
from mmcv_custom.inference import Predictor
from mmcv_custom.results import row, write_json
from mmcv_custom.shipped import config_stem
from token_pruning.analysis.keep_ratio import mean_keep_ratio

POINTS, LINE = "#0072b2", "#d55e00"  # Okabe and Ito's palette
FLAT = 1e-6  # range over the images below which a value counts as constant


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of a pruned detector or segmentor")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="classes that are objects (default: all but background)"
    )
    parser.add_argument("--number", type=int, default=200, metavar="N", help="maximum number of images (default: 200)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="work_dirs/content", metavar="DIR", help="default: work_dirs/content")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE", help="override config values"
    )
    args = parser.parse_args()
    if args.number < 3:
        parser.error("--number must be at least 3: a line always fits two points")
    return args


class Coverage:
    """The annotated images of a data set, and the fraction of each that objects cover.

    Args:
        cfg: config whose ``val_dataloader`` defines the data set.
        classes: names of the classes that are objects; None for all but "background".

    Raises:
        ConfigError: a data set without boxes, masks or label maps, or without one of the classes.
    """

    def __init__(self, cfg, classes):
        dataset = cfg.val_dataloader.dataset
        loaders = [step for step in steps_of(dataset.get("pipeline") or []) if "Annotations" in step["type"]]
        with building_from_config(), DATASETS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
            self.dataset = registry.build(dict(dataset, pipeline=[]))
        names = list(self.dataset.metainfo.get("classes") or ())
        absent = [name for name in classes or () if name not in names]
        if absent:
            raise ConfigError(f"--classes {', '.join(absent)}: the data set has {', '.join(names)}")
        self.objects = [i for i, name in enumerate(names) if (name in classes if classes else name != "background")]
        sample = self.dataset.get_data_info(0)
        self.load = None
        if "instances" not in sample and "seg_map_path" in sample and loaders:
            with building_from_config(), TRANSFORMS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
                self.load = registry.build(loaders[0])
        elif "instances" not in sample:
            raise ConfigError(
                f"{dataset.type} has neither boxes nor label maps in its val_dataloader: give the config "
                "of a detector or segmentor with an annotated validation set"
            )

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        """Return the path of an image and the fraction of it that is covered."""
        sample = self.dataset.get_data_info(i)
        mask = self._from_label_map(sample) if self.load else self._from_instances(sample)
        return sample["img_path"], float(mask.mean())

    def _from_label_map(self, sample):
        """Return an (h, w) bool array, True on objects."""
        import mmcv

        sample["ori_shape"] = mmcv.imread(sample["img_path"]).shape[:2]
        return np.isin(self.load(sample)["gt_seg_map"], self.objects)

    def _from_instances(self, sample):
        """Return an (h, w) bool array, True on objects."""
        from pycocotools import mask as coco

        h, w = sample["height"], sample["width"]
        covered = np.zeros((h, w), bool)
        for instance in sample["instances"]:
            if instance["bbox_label"] not in self.objects:
                continue
            shape = instance.get("mask")
            if shape:
                if isinstance(shape, list) or isinstance(shape["counts"], list):
                    shape = coco.frPyObjects(shape, h, w)
                decoded = coco.decode(shape)
                covered |= (decoded.any(axis=2) if decoded.ndim == 3 else decoded).astype(bool)
            else:
                x1, y1, x2, y2 = (max(0, round(side)) for side in instance["bbox"])
                covered[y1:y2, x1:x2] = True
        return covered


def measured(predictor, coverage, number):
    """Return a dict for each of the first ``number`` images: its covered fraction, and the kept fraction by block."""
    count = min(number, len(coverage))
    found = []
    for i in tqdm(range(count), unit="image", disable=None):
        path, covered = coverage[i]
        tokens = predictor(path).tokens
        found.append(dict(image=path, covered=covered, keep_by_block=tokens.keep_ratio()))
    return found


def fit(x, y):
    """Fit a line: slope, offset and Pearson's correlation, which is None where x or y is constant."""
    if np.ptp(x) < FLAT or np.ptp(y) < FLAT:
        return dict(slope=0.0, offset=float(np.mean(y)), correlation=None)
    slope, offset = np.polyfit(x, y, 1)
    return dict(slope=float(slope), offset=float(offset), correlation=float(np.corrcoef(x, y)[0, 1]))


def summary(images, pruned_blocks):
    """Return the fits of the mean over the pruned blocks, and of each block that did not compute all tokens.

    Raises:
        DataError: too few images, or the covered or the kept fraction is the same for all of them.
    """
    covered = np.array([one["covered"] for one in images])
    kept = np.array([one["keep_by_block"] for one in images])  # (images, blocks)
    if len(images) < 3:
        raise DataError(f"the validation set has {len(images)} images: at least 3 are needed for a line")
    if not covered.any():
        raise DataError(
            "none of the images has an annotation of these classes: give others with --classes, or another data set"
        )
    if np.ptp(covered) < FLAT:
        raise DataError(
            f"objects cover {covered[0]:.0%} of every image: select the classes that are objects with --classes"
        )
    fewer = [block for block in range(kept.shape[1]) if (kept[:, block] < 1).any()]
    if not fewer:
        raise DataError("every block computed all tokens of all images: lower the method's cost parameter")
    mean = fit(covered, mean_kept(kept, pruned_blocks))
    return dict(mean=mean, blocks={block: fit(covered, kept[:, block]) for block in fewer})


def mean_kept(kept, pruned_blocks):
    """Return the mean over the pruned blocks for each image, given ``kept`` (images, blocks)."""
    return np.array([mean_keep_ratio(one, pruned_blocks) for one in kept.tolist()])


def draw(images, fits, pruned_blocks, title):
    """Draw a large panel for the mean over the pruned blocks and a small one for each block of ``fits``."""
    x = 100 * np.array([one["covered"] for one in images])
    kept = 100 * np.array([one["keep_by_block"] for one in images])
    blocks = list(fits["blocks"])
    columns = 1 if len(blocks) <= 3 else 2 if len(blocks) <= 6 else 3 if len(blocks) <= 12 else 4
    lines = -(-len(blocks) // columns)
    figure = Figure(figsize=(5.8 + 2.7 * columns, max(5.8, 1.6 * lines)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[5.8, 2.7 * columns])
    large = left.subplots()
    panel(large, x, mean_kept(kept, pruned_blocks), fits["mean"], "mean of the pruned blocks", 13, 28)
    large.set_xlabel("% of the image covered by objects", fontsize=12)
    large.set_ylabel("% of its tokens computed", fontsize=12)
    small = right.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, block in zip(small, blocks, strict=False):
        panel(axes, x, kept[:, block], fits["blocks"][block], f"block {block}", 11, 9)
    for axes in small[len(blocks) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=14)
    return figure


def panel(axes, x, y, line, name, size, area):
    """Draw points and fitted line; ``size`` is that of the title's font, ``area`` that of a point."""
    axes.scatter(x, y, s=area, color=POINTS, alpha=0.55, linewidths=0)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, 100 * line["offset"] + line["slope"] * ends, color=LINE, linewidth=2)
    r = line["correlation"]
    axes.set_title(f"{name}: " + ("constant" if r is None else f"r = {r:.2f}"), fontsize=size)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def in_words(fits, count):
    """Return the result as a sentence."""
    line = fits["mean"]
    if line["correlation"] is None:
        return f"The method keeps the same number of tokens in all {count} images."
    return (
        f"{count} images, r = {line['correlation']:.2f}: where objects cover 10 percentage points more, "
        f"{10 * line['slope']:+.1f} points of the tokens are computed (mean of the pruned blocks)."
    )


def main():
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    if cfg.model.backbone.get("reducer") is None:
        raise ConfigError(f"config {args.config} has no reducer: give one of a pruned model")
    if cfg.get("val_dataloader") is None:
        raise ConfigError(f"config {args.config} has no val_dataloader, which defines the annotated images")
    check_datasets(cfg, ["val"])
    coverage = Coverage(cfg, args.classes)
    predictor = Predictor(cfg, args.checkpoint, device=args.device)
    images, pruned_blocks = measured(predictor, coverage, args.number), predictor.model.backbone.reducer.pruned_blocks
    fits, out = summary(images, pruned_blocks), Path(args.out)
    write_json(
        out / "content.json",
        [
            row(
                config=args.config,
                checkpoint=args.checkpoint,
                classes=args.classes,
                number=len(images),
                pruned_blocks=pruned_blocks,
                mean=fits["mean"],
                blocks=[dict(block=block, **line) for block, line in fits["blocks"].items()],
                images=images,
            )
        ],
    )
    title = f"Kept tokens by image content: {config_stem(args.config)}, {len(images)} images"
    with replacing(out / "content.png") as part:
        draw(images, fits, pruned_blocks, title).savefig(part, dpi=150)
    print(f"{in_words(fits, len(images))}\nwrote {out / 'content.json'} and {out / 'content.png'}")


if __name__ == "__main__":
    run(main)
