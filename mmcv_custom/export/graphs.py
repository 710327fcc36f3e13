"""What is exported of a model: a module from a batch of images to named tensors.

Shapes: B images, h x w pixels, K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from token_pruning import Trace

from ..errors import ConfigError
from .detection import DetectorGraph, check_detector
from .metadata import TOKENS

OUTPUTS = ("predictions", "scores", "features")


class AnyGraph(nn.Module):
    """Any module of images, such as a timm or Hugging Face model after ``token_pruning.apply``.

    Attributes:
        names: of the outputs, known after the first call: a mapping's keys, or "output", "output_1", ...; of a sequence
            of tensors in a mapping, such as feature maps, "feature_maps_0", "feature_maps_1", ...
    """

    task = None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.names = model, ()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return all tensors that the model returns."""
        out = self.model(images)
        if isinstance(out, Mapping):
            named = {name: value for key, values in out.items() for name, value in _named(key, values)}
        else:
            values = [out] if isinstance(out, Tensor) else [value for value in out if isinstance(value, Tensor)]
            named = {f"output_{i}" if i else "output": value for i, value in enumerate(values)}
        if not named:
            raise ConfigError(f"{type(self.model).__name__} returns no tensors: wrap it in a module that does")
        self.names = tuple(named)
        return tuple(named.values())


def _named(key: str, values: object) -> list[tuple[str, Tensor]]:
    if isinstance(values, Tensor):
        return [(key, values)]
    if not isinstance(values, (list, tuple)):
        return []
    return [(f"{key}_{i}", value) for i, value in enumerate(values) if isinstance(value, Tensor)]


class ClassifierGraph(nn.Module):
    """Probabilities (B, K)."""

    task, names = "classification", ("probabilities",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model.backbone

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(images).softmax(-1),)


class SegmentorGraph(nn.Module):
    """Label map (B, h, w) int64 of images that are one window; with ``scores``, scores (B, K, h, w) instead."""

    task = "segmentation"

    def __init__(self, model: nn.Module, scores: bool = False) -> None:
        super().__init__()
        self.model, self.scores = model, scores
        self.names = ("scores",) if scores else ("labels",)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        size = images.shape[-2:]
        # mmseg reads the size of the first image only.
        scores = self.model.encode_decode(images, [dict(img_shape=size, ori_shape=size, pad_shape=size)])
        if self.scores:
            return (scores,)
        if self.model.out_channels == 1:
            return ((scores.sigmoid() > self.model.decode_head.threshold).long()[:, 0],)
        return (scores.argmax(1),)


class BackboneGraph(nn.Module):
    """Feature maps (B, C, ., .) of a backbone, with its neck if there is one; or a classifier's class scores."""

    task = None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = model.backbone, getattr(model, "neck", None)
        self.names: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(images)
        maps = maps if self.neck is None else self.neck(maps)
        maps = (maps,) if isinstance(maps, Tensor) else tuple(maps)
        self.names = tuple(f"map_{i}" for i in range(len(maps)))
        return maps


class WithTokens(nn.Module):
    """A graph that also returns which tokens each block computed: tokens (B, L, H, W) bool.

    Args:
        graph: whose model has one stack of L blocks on a grid of H x W tokens.
    """

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.inner, self.task = graph, graph.task

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return (*self.inner.names, TOKENS)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with Trace() as trace:
            outputs = self.inner(images)
        if len(trace.passes) != 1:
            raise ConfigError(f"this model runs {len(trace.passes)} stacks of blocks: tokens are an output of one")
        return (*outputs, trace.passes[0].masks())


class Preprocessed(nn.Module):
    """A graph on uint8 RGB images: puts the channels into the model's order and normalises them.

    Args:
        graph: on images as the model's preprocessor returns them.
        normalisation: see ``metadata.normalisation``.
    """

    def __init__(self, graph: nn.Module, normalisation: Mapping) -> None:
        super().__init__()
        self.inner, self.task, self.normalisation = (
            graph,
            graph.task,
            normalisation,
        )  # not "graph": torch.export has that

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.inner.names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.inner(normalised(images, self.normalisation))


def normalised(images: Tensor, how: Mapping) -> Tensor:
    """Return uint8 RGB images (B, 3, h, w) as a model takes them; ``how``: see ``metadata.normalisation``."""
    images = images.float() if how["channels"] == "RGB" else images.float().flip(1)
    mean, std = (images.new_tensor(how[name]).view(-1, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


def graph_of(model: nn.Module, outputs: str = "predictions", masks: str = "roi") -> nn.Module:
    """Return what is exported of a model built from a config.

    Args:
        model: a classifier, segmentor or detector in evaluation mode.
        outputs: "predictions"; of segmentors also "scores"; "features" of the backbone and the neck.
        masks: of a detector, see ``DetectorGraph``.

    Raises:
        ConfigError: the model has no such outputs, or cannot be exported as a whole.
    """
    if outputs not in OUTPUTS:
        raise ConfigError(f"outputs is {outputs!r}: choose one of {', '.join(OUTPUTS)}")
    if outputs == "features":
        return BackboneGraph(model)
    if hasattr(model, "encode_decode"):
        return SegmentorGraph(model, outputs == "scores")
    if outputs == "scores":
        raise ConfigError(f"scores are an output of segmentors, and {type(model).__name__} is none: take predictions")
    if hasattr(model, "rpn_head") or hasattr(model, "bbox_head") or hasattr(model, "panoptic_head"):
        check_detector(model)
        return DetectorGraph(model, masks)
    return ClassifierGraph(model)


def tensors(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of a graph as a list."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
