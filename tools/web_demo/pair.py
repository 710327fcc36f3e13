"""A pruned model beside its dense twin, on one image: what both find, what both cost, which tokens were computed.

The twin is the same module with the reducer taken out for a moment: the same weights, no second copy in memory.
"""

import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from answer import about_result, about_tokens
from PIL import Image, ImageOps
from slider import make_slider
from torch import nn

from mmcv_custom.benchmark.timing import in_turns
from mmcv_custom.data.image_files import images_in
from mmcv_custom.engine.hooks.cost import fresh_samples
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.inference import Predictor, Result
from mmcv_custom.inference.cli import embedded
from token_pruning import Reducer, count_flops

BUDGET = 2000  # ms that the timed turns may take; one that takes longer is not repeated
TURNS = 7  # at most


@dataclass(frozen=True)
class Measured:
    """One of the two on one image: the result, 10^9 operations (a multiply-add is 2), and the network again."""

    result: Result
    gmacs: float
    again: Callable[[], object]


class Pair:
    """A model of the page.

    Args:
        config, checkpoint: as ``Predictor`` takes them.
        device: "cpu", "cuda".
        least_score: of the objects that are drawn.

    Raises:
        ConfigError, CheckpointError: they cannot be used, or the backbone is none of this project's.
    """

    def __init__(self, config: str, checkpoint: str | None, device: str, least_score: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.predictor = Predictor(config, checkpoint, device=device)
        self.name, self.least_score = Path(config).stem, least_score
        self.own = self.predictor.given and dict(self.predictor.given)  # how the config sets the reducer
        self.size, first = self._first()
        if first.tokens is None:
            raise ConfigError(f"{config} has a backbone that records no tokens: give one of this project's")
        self.task, self.slider = first.task, None
        if self.own:
            tokens = first.tokens.windows[0].trace.grid
            blocks = len(self.predictor.model.backbone.reducer.pruned_blocks)
            self.slider = make_slider(self.own, tokens[0] * tokens[1], blocks)

    def describe(self) -> dict:
        """What the page shows before any image."""
        return dict(
            name=self.name,
            task=self.task,
            method=self.predictor.method,
            notes=self.predictor.notes,
            slider=self.slider and self.slider.to_dict(),
        )

    def example(self) -> Image.Image:
        """The first test image of the config's data where that is there, else an embedded photograph."""
        dataset = self.predictor.cfg.test_dataloader.dataset
        prefix = dataset.get("data_prefix") or ""
        if not isinstance(prefix, str):
            prefix = next((value for key, value in prefix.items() if key.startswith("img")), "")
        folder = Path(dataset.get("data_root") or "", prefix)
        files = images_in(folder) if prefix and folder.is_dir() else []
        return Image.open(files[0]).convert("RGB") if files else Image.fromarray(embedded())

    def run(self, image: Image.Image, position: float | None = None) -> dict:
        """All that the page shows of an image, ready for JSON. ``position``: of the slider; None: as configured.

        Raises:
            ConfigError: a position that the slider does not have.
            DataError: an image that the model cannot take.
        """
        self._turn(position)
        if self.size:
            image = ImageOps.fit(image, self.size[::-1], Image.Resampling.LANCZOS)
        backbone = self.predictor.model.backbone
        reducers = {"pruned": backbone.reducer, "dense": None} if self.own else {"dense": None}
        found = {}
        for name, reducer in reducers.items():
            with reduced_by(backbone, reducer):
                found[name] = self._measure(image)
        times = self._times([(reducers[name], one.again) for name, one in found.items()])
        first = next(iter(found.values()))
        return dict(
            task=self.task,
            size=[image.width, image.height],
            turns=len(times[0]),
            models={
                name: about_result(one.result, statistics.median(own), one.gmacs)
                for (name, one), own in zip(found.items(), times, strict=True)
            },
            **about_tokens(first.result.tokens),
        )

    def _first(self) -> tuple[tuple[int, int] | None, Result]:
        """The size (h, w) that images must be brought to, where the pipeline does not do so itself; and a result."""
        try:
            return None, self.predictor(embedded()[:, :480])
        except DataError:
            size = self.predictor.input_size()
            return size, self.predictor(embedded(size))

    def _turn(self, position: float | None) -> None:
        if self.slider is None:
            if position is not None:
                raise ConfigError(f"{self.name} is dense: there is nothing to turn")
            return
        position = self.slider.start if position is None else position
        if position is None:
            self.predictor.reconfigure(**{name: self.own.get(name) for name in (self.slider.cost_param.name, "r")})
        else:
            self.predictor.reconfigure(**self.slider.arguments(position))

    def _measure(self, image: Image.Image) -> Measured:
        """One forward, counted; its inputs are kept so that the network alone can be timed."""
        model, calls = self.predictor.model, []

        def note(module: nn.Module, args: tuple, kwargs: dict) -> None:
            calls.append((kwargs["inputs"], fresh_samples(kwargs["data_samples"])))

        handle = model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with count_flops() as flops:
                result = self.predictor(image)
        finally:
            handle.remove()
        inputs, samples = calls[0]

        def again() -> object:
            return model(inputs=inputs, data_samples=fresh_samples(samples), mode="predict")

        if hasattr(result, "above"):
            result = result.above(self.least_score)
        return Measured(result, flops.gmacs, again)

    @torch.no_grad()
    def _times(self, models: list[tuple[Reducer | None, Callable[[], object]]]) -> list[list[float]]:
        """Milliseconds of each in turns, so that a busy machine hits both alike; as many turns as the budget allows."""

        def step(reducer: Reducer | None, again: Callable[[], object]) -> None:
            with reduced_by(self.predictor.model.backbone, reducer):
                again()

        steps, device = [lambda turn=0, model=model: step(*model) for model in models], self.predictor.device
        laps = [None] * len(steps)
        found = in_turns(steps, device, 1, 0, laps)
        turns = int(min(BUDGET / sum(own[0][0] for own in found), TURNS))
        if turns:  # a slow model is not asked again, and neither does its first turn weigh that much
            found = in_turns(steps, device, turns, 0, laps)
        return [[ms for (ms,) in own] for own in found]


@contextmanager
def reduced_by(backbone: nn.Module, reducer: Reducer | None) -> Iterator[None]:
    """In the body the backbone has that reducer, or none and is the dense one."""
    own, backbone.reducer = backbone.reducer, reducer
    try:
        yield
    finally:
        backbone.reducer = own
