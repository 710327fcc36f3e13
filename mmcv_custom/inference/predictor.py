"""Predictor: a model with the test pipeline of its config, from images to results, in one forward each.

Shapes: h x w pixels of an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from token_pruning import Trace
from token_pruning.analysis.trace import PassTrace
from token_pruning.errors import SettingError
from token_pruning.host import find_host
from token_pruning.reducer import find_method

from ..calibration.reconfigure import reconfigured
from ..checkpoint.io import read_checkpoint
from ..checkpoint.load import load_into
from ..cli.launch import build_model, check_device, read_config, with_options
from ..data.image_files import SUFFIXES, check_image, images_in, pipeline_steps
from ..errors import ConfigError, DataError, building_from_config
from ..tasks import model_words
from .class_names import class_names
from .exported import ExportedNetwork, is_exported
from .results import SCORE_THR, Result, result_of
from .token_view import TokenView, Window
from .windows import window_corners

if TYPE_CHECKING:
    from PIL.Image import Image

EXACT = "with random weights, tokens are kept at exact ratios, not by their probabilities"


class Prepared(NamedTuple):
    """An image (h, w, 3) uint8 RGB, its path, and the model's input as the pipeline packs it."""

    image: np.ndarray
    path: str | None
    packed: dict


class Predictor:
    """Model that predicts on images: ``Predictor(config, checkpoint)("street.jpg")``.

    Args:
        config: file or ``Config`` of a detector, segmentor or classifier; or a file of ``tools/export.py``, which
            needs no checkpoint, runs in a runtime of its own, and returns results without tokens.
        checkpoint: weights in any format that ``tools/test.py`` takes. None leaves random weights, with which learned
            methods keep exactly the config's ratios.
        device: "cpu", "cuda", "cuda:1".
        batch: largest number of images per forward. Only images whose inputs have the same size share a forward, so
            that none is padded because of another.
        score_thr: least score, from 0 to 1, of the objects that results of a detector draw and put into words. Their
            arrays and JSON hold all objects that the model returns; ``result.above(0.5)`` removes some.
        options: dotted config keys and their values, as ``--cfg-options``.

    Attributes:
        cfg: config as built.
        model: model in evaluation mode.
        classes: class names; () if unknown.
        reducer_config: the reducer's config as it is now (``dict(type=METHOD, ...)``); None for a dense model.
        notes: sentences that a reader of the results should know; those known at construction are also issued as
            ``UserWarning``.

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
        score_thr: float = SCORE_THR,
        options: dict | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"a batch of {batch} images is not possible: give 1 or more")
        if not 0 <= score_thr <= 1:
            raise ConfigError(f"score_thr {score_thr:g} is no score: give a number from 0 to 1")
        self.device, self.batch, self.score_thr, self.notes = check_device(device), batch, score_thr, []
        self.reducer_config: dict | None = None
        exported = is_exported(config)
        if exported:
            self._use_file(config, checkpoint, options)
        elif isinstance(config, Config):
            self.cfg = with_options(config, options)
        else:
            self.cfg = read_config(str(config), options)
        load, *rest = pipeline_steps(self.cfg)
        if "Load" not in load["type"]:
            raise ConfigError(f"the test pipeline begins with {load['type']}, not with a step that loads an image")
        if not exported and "backbone" not in (self.cfg.get("model") or {}):
            raise ConfigError(f"config {self.cfg.filename} has no model.backbone: give one of a {model_words()}")
        if not exported:
            self._use_config(checkpoint)
        with building_from_config():
            self._load, self._rest = Compose([load]), Compose(rest)
        for sentence in self.notes:
            warnings.warn(sentence, stacklevel=2)

    def _use_config(self, checkpoint: str | Path | None) -> None:
        """Build the model and load its weights."""
        weights = None if checkpoint is None else read_checkpoint(checkpoint)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = build_model(self.cfg, None).to(self.device)
        reducer = self.cfg.model.backbone.get("reducer")
        self.reducer_config = None if reducer is None else reducer.to_dict()
        if weights is None:
            self._use_random_weights()
        else:
            averaged = self.cfg.get("averaged_weights", True)
            self.report = load_into(self.model, weights, logger="silent", source=str(checkpoint), averaged=averaged)
            if any(".reducer." in name for name in self.report.missing):
                self.notes.append(
                    f"{checkpoint} has no weights for the {self.method} that selects tokens: it selects at random"
                )
        self.classes = class_names(self.cfg, weights)

    def _use_file(self, path: str | Path, checkpoint: object, options: dict | None) -> None:
        """Take an exported file for the model."""
        if checkpoint is not None or options or self.device.type != "cpu":
            raise ConfigError(f"{path} is an exported file: it takes no checkpoint, no options and runs on the CPU")
        init_default_scope("mmengine")
        self.model = ExportedNetwork(path)
        self.cfg = self.model.cfg
        init_default_scope(self.cfg.get("default_scope", "mmengine"))
        self.classes = tuple(self.model.file.metadata.get("classes", ()))

    def __call__(self, images: str | Path | np.ndarray | Image | Iterable) -> Result | list[Result]:
        """Return the result of one image, or a list of results for a folder or several images.

        Args:
            images: a file, an array (h, w, 3) uint8 RGB, a tensor (3, h, w) uint8 RGB as torchvision reads it, or a
                PIL image; a folder; several of these, none included.

        Raises:
            DataError: an image is missing or broken or has a size that the model cannot take, or a folder has none.
        """
        single = (
            isinstance(images, (np.ndarray, Tensor))
            or hasattr(images, "convert")
            or (isinstance(images, (str, Path)) and not Path(images).is_dir())
        )
        results = list(self.stream([images] if single else images))
        return results[0] if single else results

    def stream(self, images: str | Path | Iterable) -> Iterator[Result]:
        """Yield results one after the other without holding all of them: for large folders and videos."""
        if isinstance(images, (str, Path)):
            images = image_files(images)
        if not isinstance(images, Iterable):
            raise DataError(f"{images!r} is no image: give files, folders, arrays or PIL images")
        prepared: list[Prepared] = []
        for image in images:
            try:
                prepared.append(self._prepare(image))
            except DataError:
                yield from self._results(prepared)  # of the images before the broken one
                raise
            if len(prepared) == self.batch:
                yield from self._results(prepared)
                prepared = []
        yield from self._results(prepared)

    @property
    def method(self) -> str | None:
        """Registered name of the reducer; None for a dense model."""
        return self.reducer_config and self.reducer_config["type"]

    @property
    def cost_param(self) -> str | None:
        """Name of the reducer's argument that ``set_cost`` sets ("keep_ratio"); None for a dense model."""
        return self.method and find_method(self.method).cost_param[0]

    @property
    def cost_value(self) -> object:
        """Value of ``cost_param``; None for a dense model, and where ``r`` sets the cost instead (see ``setting``)."""
        if self.reducer_config is None:
            return None
        default = getattr(self.model.backbone.reducer, self.cost_param, None)
        return self.reducer_config.get(self.cost_param, default)

    def set_cost(self, value: float) -> None:
        """Set how much is computed, by the method's own ``cost_param``; the weights stay.

        Raises:
            ConfigError: the model is dense, or the value is out of range.
        """
        if self.reducer_config is None:
            raise ConfigError(f"{self.cfg.filename} has no reducer, so there is no cost to set: give a pruned config")
        self.reconfigure(**{self.cost_param: value})

    @property
    def setting(self) -> str | None:
        """What sets the cost, in words ("keep_ratio = 0.5"); None for a dense model."""
        if self.reducer_config is None:
            return None
        if self.reducer_config.get("r") is not None:
            return f"r = {self.reducer_config['r']}"
        return f"{self.cost_param} = {self.cost_value}"

    def reconfigure(self, **arguments: object) -> None:
        """Change arguments of the reducer's config (``mode``, ``keep_ratio``, ``ratio_scale``, ...); weights stay.

        Raises:
            ConfigError: the reducer does not have the argument, or the value is out of range.
        """
        if self.reducer_config is None:
            raise ConfigError(
                f"{self.cfg.filename} has no reducer, so there is no {', '.join(arguments)} to set: "
                "give a pruned config"
            )
        if arguments.get("keep_ratio") is not None and "r" in self.reducer_config:  # only one of them sets the cost
            arguments = dict(arguments, r=None)
        try:
            self.model.backbone.reducer = reconfigured(self.model.backbone.reducer, self.reducer_config, **arguments)
        except (ValueError, TypeError) as error:
            wanted = ", ".join(f"{name} = {value}" for name, value in arguments.items())
            raise ConfigError(f"{wanted} does not fit {self.method}: {error}") from None
        self.reducer_config |= arguments
        if EXACT in self.notes and self.reducer_config["mode"] != "ratio":
            self.notes.remove(EXACT)

    def input_size(self) -> tuple[int, int] | None:
        """Return the only input size (h, w) that the model takes; None if it takes any."""
        host = find_host(self.model)
        embed = host and host.patch_embed
        return tuple(embed.img_size) if getattr(embed, "strict_img_size", False) else None

    def _use_random_weights(self) -> None:
        self.notes.append(f"{self.cfg.filename} without a checkpoint has random weights: its predictions mean nothing")
        if self.reducer_config is not None and "mode" in vars(self.model.backbone.reducer):
            self.reconfigure(mode="ratio")
            self.notes.append(EXACT)

    def _prepare(self, image: object) -> Prepared:
        path = None
        if isinstance(image, (str, Path)):
            path = str(image)
            check_image(path)
            loaded = self._load(dict(img_path=path, img_id=0))
        else:
            array = _rgb_array(image)
            size = array.shape[:2]
            loaded = dict(
                img=np.ascontiguousarray(array[..., ::-1]), img_path="array", img_id=0, img_shape=size, ori_shape=size
            )
        rgb = np.ascontiguousarray(loaded["img"][..., ::-1]).astype(np.uint8)
        packed = self._rest(loaded)
        size, wanted = tuple(packed["inputs"].shape[-2:]), self.input_size()
        if wanted and size != wanted:
            raise DataError(
                f"{path or 'an array'} is {size[0]} x {size[1]} pixels after the test pipeline and the "
                f"{type(self.model.backbone).__name__} takes {wanted[0]} x {wanted[1]} only: give images of that size"
            )
        return Prepared(rgb, path, packed)

    def _results(self, prepared: list[Prepared]) -> Iterator[Result]:
        for _, same_size in groupby(prepared, key=lambda one: tuple(one.packed["inputs"].shape)):
            yield from self._forward(list(same_size))

    @torch.no_grad()
    def _forward(self, batch: list[Prepared]) -> Iterator[Result]:
        with Trace() as trace:
            # The two halves of the model's test_step; in between, the size after the preprocessor's padding is known.
            data = self.model.data_preprocessor(pseudo_collate([one.packed for one in batch]), False)
            try:
                samples = self.model(**data, mode="predict")
            except SettingError as error:  # the reducer takes more tokens than a small image has, for example
                raise DataError(f"{batch[0].path or 'an array'} does not fit the config: {error}") from error
        size = tuple(data["inputs"].shape[-2:])
        for i, (one, sample) in enumerate(zip(batch, samples, strict=True)):
            yield result_of(
                sample.cpu(),
                image=one.image,
                path=one.path,
                classes=self.classes,
                score_thr=self.score_thr,
                tokens=token_view(self.model, one.packed["inputs"], [seen.of(i) for seen in trace.passes], size),
            )


def token_view(model: nn.Module, inputs: Tensor, traces: list[PassTrace], size: tuple[int, int]) -> TokenView | None:
    """Return the token view of one image, or None without traces.

    Args:
        model: the model that ran, unwrapped.
        inputs: (3, h, w) as the test pipeline packs them, BGR, values up to 255.
        traces: of this image alone, one for each position of a sliding window.
        size: (h, w) of the forward's inputs, padding included.
    """
    if not traces:
        return None
    rgb = inputs.flip(0).permute(1, 2, 0).cpu().numpy().clip(0, 255).astype(np.uint8)
    corners = [(0, 0)]
    cfg = getattr(model, "test_cfg", None) or {}
    if hasattr(model, "window_corners"):  # it has windows of its own
        corners = model.window_corners(size)
    elif len(traces) > 1 and cfg.get("mode") == "slide":
        corners = window_corners(size, cfg["crop_size"], cfg["stride"])
    windows = tuple(Window(*corner, trace) for corner, trace in zip(corners, traces, strict=True))
    if isinstance(model, ExportedNetwork):
        return TokenView(rgb, windows, model.patch, model.pruned_blocks)
    reducer = model.backbone.reducer
    pruned = tuple(reducer.pruned_blocks) if reducer is not None else ()
    return TokenView(rgb, windows, model.backbone.patch_embed.patch_size[0], pruned)


def image_files(path: str | Path, say: Callable[[str], object] = warnings.warn) -> list[Path]:
    """Return the image, or the images of a folder in natural order; ``say`` gets a sentence on what is left out.

    Raises:
        DataError: a folder has none.
    """
    if not Path(path).is_dir():
        return [Path(path)]
    files = images_in(Path(path), say)
    if not files:
        raise DataError(f"folder {path} has no images ({', '.join(SUFFIXES)}): give another folder")
    return files


def _rgb_array(image: object) -> np.ndarray:
    """Return an array, a tensor or a PIL image as (h, w, 3) uint8 RGB.

    Raises:
        DataError: it is of another form.
    """
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or not image.numel():
            raise DataError(_no_image("a tensor", image, "(3, height, width) uint8 RGB"))
        return image.permute(1, 2, 0).cpu().numpy()
    array = np.asarray(_upright_rgb(image) if hasattr(image, "convert") else image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise DataError(_no_image("an array", array, "(height, width, 3) uint8 RGB"))
    return array


def _no_image(kind: str, values: np.ndarray | Tensor, wanted: str) -> str:
    dtype = str(values.dtype).removeprefix("torch.")
    hint = "; of values from 0 to 1, multiply by 255 first" if "float" in dtype else ""
    hint = ", several as a list" if values.ndim == 4 else hint
    return f"{kind} of shape {tuple(values.shape)} and type {dtype} is no image: give {wanted}{hint}"


def _upright_rgb(image: Image) -> Image:
    """Return a PIL image as its file would be read: 8-bit RGB, rotated by its EXIF orientation.

    Raises:
        DataError: its channels have more than 8 bits, which readers reduce in different ways.
    """
    from PIL import ImageOps

    if image.mode[0] in "IF":
        raise DataError(
            f"a PIL image of mode {image.mode} has more than 8 bits a channel: give its file, or an array "
            "(height, width, 3) uint8"
        )
    return ImageOps.exif_transpose(image).convert("RGB")
