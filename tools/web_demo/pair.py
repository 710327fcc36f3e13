"""A pruned model and its dense counterpart on one image: results, cost, and which tokens were computed.

The dense model is the same module with the reducer removed temporarily: same weights, no second copy in memory.
"""

import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from answer import about_result, about_tokens
from PIL import Image, ImageOps
from slider import make_slider
from torch import nn

from mmcv_custom.benchmark.timing import interleaved
from mmcv_custom.data.image_files import images_in
from mmcv_custom.engine.hooks.cost import fresh_samples
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.inference import Predictor, Result
from mmcv_custom.inference.cli import example_image
from mmcv_custom.shipped import config_stem
from mmcv_custom.tasks import TASKS
from token_pruning import Reducer, count_flops

TIMING_MS = 2000  # for all timed repeats; models that take longer are timed once
MAX_REPEATS = 7


@dataclass(frozen=True)
class Measured:
    """One of the two models on one image: its result, its GMACs, and a function that runs the network again."""

    result: Result
    gmacs: float
    rerun: Callable[[], object]


class Pair:
    """A model of the page, with and without its reducer.

    Args:
        config, checkpoint: as ``Predictor`` takes them.
        device: "cpu", "cuda".
        score_thr: least score of the objects that are drawn.
        timing_ms: milliseconds for the timed repeats of an image.

    Raises:
        ConfigError, CheckpointError: they cannot be used, or the backbone is not one of this project.
    """

    def __init__(
        self, config: str, checkpoint: str | None, device: str, score_thr: float, timing_ms: float = TIMING_MS
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.predictor = Predictor(config, checkpoint, device=device)
        self.name, self.score_thr, self.timing_ms = config_stem(config), score_thr, timing_ms
        reducer = self.predictor.reducer_config
        self.configured = reducer and dict(reducer)  # before the slider moves
        self.size, first = self._first_result()
        if first.tokens is None:
            raise ConfigError(f"{config} has a backbone that records no tokens: give one of this project's")
        self.task, self.slider = TASKS[first.task], None
        if self.configured:
            grid = first.tokens.windows[0].trace.grid
            self.slider = make_slider(self.configured, grid[0] * grid[1], len(first.tokens.pruned_blocks))

    def describe(self) -> dict:
        """Return what the page shows before any image is sent."""
        return dict(
            name=self.name,
            task=self.task.name,
            method=self.predictor.method,
            classes=list(self.predictor.classes),
            notes=self.predictor.notes,
            slider=self.slider and self.slider.to_dict(),
        )

    def example(self) -> Image.Image:
        """Return the first test image of the config's data if it is on disk, else the example photograph."""
        dataset = self.predictor.cfg.test_dataloader.dataset
        prefix = dataset.get("data_prefix") or ""
        if not isinstance(prefix, str):
            prefix = next((value for key, value in prefix.items() if key.startswith("img")), "")
        folder = Path(dataset.get("data_root") or "", prefix)
        files = images_in(folder) if prefix and folder.is_dir() else []
        return (
            ImageOps.exif_transpose(Image.open(files[0])).convert("RGB") if files else Image.fromarray(example_image())
        )

    def run(self, image: Image.Image, position: float | None = None) -> dict:
        """Return everything that the page shows about an image, ready for JSON.

        Args:
            position: of the slider; None for the config's own setting.

        Raises:
            ConfigError: the slider does not have the position.
            DataError: the model cannot take the image.
        """
        self._set_cost(position)
        if self.size:
            image = ImageOps.fit(image, self.size[::-1], Image.Resampling.LANCZOS)
        backbone = self.predictor.model.backbone
        reducers = {"pruned": backbone.reducer, "dense": None} if self.configured else {"dense": None}
        measured = {}
        for name, reducer in reducers.items():
            with reducer_set(backbone, reducer):
                measured[name] = self._measure(image)
        times = self._times([(reducers[name], one.rerun) for name, one in measured.items()])
        first = next(iter(measured.values()))
        return dict(
            task=self.task.name,
            caption=self.task.caption,
            size=[image.width, image.height],
            repeats=len(times[0]),
            models={
                name: about_result(one.result, statistics.median(own), one.gmacs)
                for (name, one), own in zip(measured.items(), times, strict=True)
            },
            **about_tokens(first.result.tokens),
        )

    def _first_result(self) -> tuple[tuple[int, int] | None, Result]:
        """Return the size (h, w) that images must have, if the pipeline does not resize them itself, and a result."""
        try:
            return None, self.predictor(example_image()[:, :480])
        except DataError:
            size = self.predictor.input_size()
            return size, self.predictor(example_image(size))

    def _set_cost(self, position: float | None) -> None:
        if self.slider is None:
            if position is not None:
                raise ConfigError(f"{self.name} is dense, so there is no cost to set")
            return
        position = self.slider.start if position is None else position
        if position is None:
            names = (self.slider.cost_param.name, "r")
            self.predictor.reconfigure(**{name: self.configured.get(name) for name in names})
        else:
            self.predictor.reconfigure(**self.slider.arguments(position))

    def _measure(self, image: Image.Image) -> Measured:
        """Run one forward and count it; keep its inputs, so that the network alone can be timed."""
        model, calls = self.predictor.model, []

        def record(module: nn.Module, args: tuple, kwargs: dict) -> None:
            calls.append((kwargs["inputs"], fresh_samples(kwargs["data_samples"])))

        handle = model.register_forward_pre_hook(record, with_kwargs=True)
        try:
            with count_flops() as flops:
                result = self.predictor(image)
        finally:
            handle.remove()
        inputs, samples = calls[0]

        def rerun() -> object:
            return model(inputs=inputs, data_samples=fresh_samples(samples), mode="predict")

        return Measured(result.above(self.score_thr), flops.gmacs, rerun)

    @torch.no_grad()
    def _times(self, models: list[tuple[Reducer | None, Callable[[], object]]]) -> list[list[float]]:
        """Return the milliseconds of each model, interleaved, with as many repeats as the budget allows."""

        def step(model: tuple[Reducer | None, Callable[[], object]], repeat: int) -> None:
            reducer, rerun = model
            with reducer_set(self.predictor.model.backbone, reducer):
                rerun()

        steps, device = [partial(step, model) for model in models], self.predictor.device
        times = interleaved(steps, device, 1, 0)
        repeats = int(min(self.timing_ms / sum(own[0][0] for own in times), MAX_REPEATS))
        if repeats:  # the first run was a warm-up then; a slow model is not run again
            times = interleaved(steps, device, repeats, 0)
        return [[ms for (ms,) in own] for own in times]


@contextmanager
def reducer_set(backbone: nn.Module, reducer: Reducer | None) -> Iterator[None]:
    """Give the backbone a reducer in the body; None makes it dense."""
    own, backbone.reducer = backbone.reducer, reducer
    try:
        yield
    finally:
        backbone.reducer = own
