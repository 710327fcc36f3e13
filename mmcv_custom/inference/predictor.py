"""A model with its config's own test pipeline: from images to results, in one forward each.

Shapes: h x w pixels of an image, B images of one forward.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from token_pruning import Trace
from token_pruning.analysis.trace import PassTrace
from token_pruning.reducer import find_method

from ..calibration.reconfigure import reconfigured
from ..checkpoint.io import read_checkpoint
from ..checkpoint.load import load_into
from ..cli.launch import build_model, check_device, read_config, with_options
from ..data.image_files import SUFFIXES, check_image, images_in, pipeline_steps
from ..errors import ConfigError, DataError
from .class_names import class_names
from .results import Classification, Detection, Result, Segmentation
from .token_view import TokenView, Window

EXACT = "with random weights, tokens are kept at exact ratios, not by their probabilities"


class Predictor:
    """``Predictor(config, checkpoint)("street.jpg")``.

    Args:
        config: file or ``Config`` of a detector, segmentor or classifier.
        checkpoint: weights in any schema that ``tools/test.py`` takes. None leaves random ones, with which learned
            methods keep exactly the config's ratios.
        device: "cpu", "cuda", "cuda:1".
        batch: images of one forward at most. Only those that make inputs of one size share one, so that none is
            padded because of another.
        options: dotted names of the config and their values, as ``--cfg-options``.

    Attributes:
        cfg, model: as built, in evaluation.
        classes: names; () where nothing tells them.
        notes: sentences that whoever sees the results should know; those of the beginning are also ``UserWarning``s.

    Raises:
        ConfigError, CheckpointError: config, device or weights cannot be used.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        device: str = "cpu",
        batch: int = 1,
        options: dict | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"a batch of {batch} images: it must be 1 or more")
        self.cfg = with_options(config, options) if isinstance(config, Config) else read_config(str(config), options)
        self.device, self.batch, self.notes = check_device(device), batch, []
        load, *rest = pipeline_steps(self.cfg)
        if "Load" not in load["type"]:
            raise ConfigError(f"the test pipeline begins with {load['type']}, not with a step that loads an image")
        if "backbone" not in (self.cfg.get("model") or {}):
            raise ConfigError(
                f"config {self.cfg.filename} has no model.backbone: give one of a detector, segmentor or classifier"
            )
        weights = None if checkpoint is None else read_checkpoint(checkpoint)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = build_model(self.cfg, None).to(self.device)
        self._load, self._rest = Compose([load]), Compose(rest)
        self.given = self.cfg.model.backbone.get("reducer")
        self.given = None if self.given is None else self.given.to_dict()
        if weights is None:
            self._start_without_weights()
        else:
            self.report = load_into(self.model, weights, logger="silent", source=str(checkpoint))
            fresh = [name for name in self.report.missing if ".reducer." in name]
            if fresh:
                self.notes.append(
                    f"{checkpoint} has no weights for the {self.method} that decides about tokens: it decides at random"
                )
        self.classes = class_names(self.cfg, weights)
        for sentence in self.notes:
            warnings.warn(sentence, stacklevel=2)

    def __call__(self, images: object) -> Result | list[Result]:
        """Results of ``images``: of one file, one array (h, w, 3) uint8 RGB or one PIL image the result itself, of a
        folder or several images a list.

        Raises:
            DataError: an image that is missing or broken, a folder without images, a size that the model cannot
                take.
        """
        single = (
            isinstance(images, np.ndarray)
            or hasattr(images, "convert")
            or (isinstance(images, (str, Path)) and not Path(images).is_dir())
        )
        found = list(self.stream([images] if single else images))
        return found[0] if single else found

    def stream(self, images: str | Path | Iterable) -> Iterator[Result]:
        """The same one after the other, without holding all of them: for large folders and films."""
        if isinstance(images, (str, Path)):
            images = folder_of(images)
        if not isinstance(images, Iterable):
            raise DataError(f"{images!r} is no image: give files, folders, arrays or PIL images")
        held: list[tuple] = []
        for photo in images:
            try:
                held.append(self._prepared(photo))
            except DataError:
                yield from self._results(held)  # those before it
                raise
            if len(held) == self.batch:
                yield from self._results(held)
                held = []
        yield from self._results(held)

    @property
    def method(self) -> str | None:
        """The name of the reducer; None of a dense model."""
        return self.given and self.given["type"]

    @property
    def cost_param_name(self) -> str | None:
        """The reducer's argument that ``cost_param`` turns; None of a dense model."""
        return self.given and find_method(self.method).cost_param[0]

    def cost_param(self, value: float | None = None) -> object:
        """Set how much is computed, by the method's own cost parameter (``cost_param_name``); gives its present value, None where the
        config says it by ``r`` (see ``setting``).

        Raises:
            ConfigError: a dense model, or a value outside the cost parameter's range.
        """
        if self.given is None:
            raise ConfigError(f"{self.cfg.filename} has no reducer, so there is no ratio to set: give a pruned config")
        if value is not None:
            self.reconfigure(**{self.cost_param_name: value})
        own = getattr(self.model.backbone.reducer, self.cost_param_name, None)
        return self.given.get(self.cost_param_name, own)

    @property
    def setting(self) -> str | None:
        """In words, what says how much is computed: "keep_ratio = 0.5"; None of a dense model."""
        if self.given is None:
            return None
        return (
            f"r = {self.given['r']}"
            if self.given.get("r") is not None
            else f"{self.cost_param_name} = {self.cost_param()}"
        )

    def reconfigure(self, **arguments: object) -> None:
        """Give the reducer other ``arguments`` of its config (``mode``, ``keep_ratio``, ``ratio_scale``, ...).

        Raises:
            ConfigError: an argument that it does not have, or a value outside its range.
        """
        if self.given is None:
            raise ConfigError(
                f"{self.cfg.filename} has no reducer whose {', '.join(arguments)} could be set: give a pruned config"
            )
        if arguments.get("keep_ratio") is not None and "r" in self.given:  # one of the two says how many
            arguments = dict(arguments, r=None)
        try:
            self.model.backbone.reducer = reconfigured(self.model.backbone.reducer, self.given, **arguments)
        except (ValueError, TypeError) as error:
            wanted = ", ".join(f"{name} = {value}" for name, value in arguments.items())
            raise ConfigError(f"{wanted} does not fit {self.method}: {error}") from None
        self.given |= arguments
        if EXACT in self.notes and self.given["mode"] != "ratio":
            self.notes.remove(EXACT)

    def input_size(self) -> tuple[int, int] | None:
        """(h, w) of the only inputs that the model takes; None where it takes any."""
        embed = getattr(self.model.backbone, "patch_embed", None)
        return tuple(embed.img_size) if getattr(embed, "strict_img_size", False) else None

    def _start_without_weights(self) -> None:
        self.notes.append(f"{self.cfg.filename} without a checkpoint has random weights: what is found means nothing")
        if self.given is not None and "mode" in vars(self.model.backbone.reducer):
            self.reconfigure(mode="ratio")
            self.notes.append(EXACT)

    def _prepared(self, photo: object) -> tuple[np.ndarray, str | None, dict]:
        """The image as RGB, its path, and the network's input as the pipeline packs it."""
        path = None
        if isinstance(photo, (str, Path)):
            path = str(photo)
            check_image(path)
            loaded = self._load(dict(img_path=path, img_id=0))
        else:
            array = np.asarray(_as_read(photo) if hasattr(photo, "convert") else photo)
            if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
                raise DataError(
                    f"an array of shape {array.shape} and type {array.dtype} is no image: give (height, "
                    "width, 3) of uint8, red first"
                )
            size = array.shape[:2]
            loaded = dict(
                img=np.ascontiguousarray(array[..., ::-1]), img_path="array", img_id=0, img_shape=size, ori_shape=size
            )
        image = np.ascontiguousarray(loaded["img"][..., ::-1]).astype(np.uint8)
        packed = self._rest(loaded)
        size, wanted = tuple(packed["inputs"].shape[-2:]), self.input_size()
        if wanted and size != wanted:
            raise DataError(
                f"{path or 'an array'} is {size[0]} x {size[1]} pixels after the test pipeline and the "
                f"{type(self.model.backbone).__name__} takes {wanted[0]} x {wanted[1]} only: give images "
                "of that size"
            )
        return image, path, packed

    def _results(self, held: list[tuple]) -> Iterator[Result]:
        for _, same in groupby(held, key=lambda one: tuple(one[2]["inputs"].shape)):
            yield from self._forward(list(same))

    @torch.no_grad()
    def _forward(self, same: list[tuple]) -> Iterator[Result]:
        with Trace() as trace:
            # The two halves of the model's test_step: between them is what the preprocessor padded.
            data = self.model.data_preprocessor(pseudo_collate([packed for *_, packed in same]), False)
            samples = self.model(**data, mode="predict")
        size = tuple(data["inputs"].shape[-2:])
        for i, ((image, path, packed), sample) in enumerate(zip(same, samples, strict=True)):
            yield result_of(
                image=image,
                path=path,
                classes=self.classes,
                sample=sample.cpu(),
                tokens=token_view(self.model, packed["inputs"], [one.of(i) for one in trace.passes], size),
            )


def token_view(model: nn.Module, inputs: Tensor, traces: list[PassTrace], size: tuple[int, int]) -> TokenView | None:
    """What became of the tokens of one image.

    Args:
        model: which ran, out of its wrappers.
        inputs: (3, h, w) as the test pipeline packs them, values up to 255, blue first.
        traces: of the image alone, one for each window that slid over it; none gives None.
        size: (h, w) of the forward's inputs, padding included.
    """
    if not traces:
        return None
    seen = inputs.flip(0).permute(1, 2, 0).cpu().numpy().clip(0, 255).astype(np.uint8)
    corners = [(0, 0)]
    cfg = getattr(model, "test_cfg", None) or {}
    if len(traces) > 1 and cfg.get("mode") == "slide":
        corners = window_corners(size, cfg["crop_size"], cfg["stride"])
    windows = tuple(Window(*corner, one) for corner, one in zip(corners, traces, strict=True))
    return TokenView(seen, windows, model.backbone.patch_embed.patch_size[0])


def result_of(**common) -> Result:
    """The result that the fields of ``Result`` make, by what the sample holds."""
    sample = common["sample"]
    if "pred_instances" in sample:
        found = sample.pred_instances
        masks = found.masks.numpy().astype(bool) if "masks" in found else None
        return Detection(
            **common, boxes=found.bboxes.numpy(), scores=found.scores.numpy(), labels=found.labels.numpy(), masks=masks
        )
    if "pred_sem_seg" in sample:
        return Segmentation(**common, map=sample.pred_sem_seg.data[0].numpy())
    return Classification(**common, scores=sample.pred_score.numpy())


def _as_read(photo):
    """A PIL image as its file is read: turned as its camera was held.

    Raises:
        DataError: its channels have more than 8 bits, which readers cut down in different ways.
    """
    from PIL import ImageOps

    if photo.mode[0] in "IF":
        raise DataError(
            f"a PIL image of mode {photo.mode} has more than 8 bits a channel: give its file, or an "
            "array (height, width, 3) of uint8"
        )
    return ImageOps.exif_transpose(photo).convert("RGB")


def folder_of(path: str | Path) -> list[Path]:
    """The image, or the images of the folder. Raises DataError when there are none."""
    if not Path(path).is_dir():
        return [Path(path)]
    files = images_in(Path(path))
    if not files:
        raise DataError(f"folder {path} has no images ({', '.join(SUFFIXES)}): give another")
    return files


def window_corners(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    """(y, x) of the windows that mmseg slides over an input of ``size`` (h, w), in its order: row by row, the last of
    each moved back to end where the input ends."""
    ys, xs = (
        [max(min(step * shift, side - window), 0) for step in range(-(-max(side - window, 0) // shift) + 1)]
        for side, window, shift in zip(size, crop, stride, strict=True)
    )
    return [(y, x) for y in ys for x in xs]
