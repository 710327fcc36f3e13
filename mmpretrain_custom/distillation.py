"""Learning from a teacher: DeiT's soft and hard distillation, and DynamicViT's on scores and kept tokens.

Shapes: B images, h x w pixels, K classes, N positions of the final map, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmcv_custom.checkpoint.load import load_into
from mmcv_custom.errors import ConfigError
from token_pruning import Trace

from .vit import create_timm


def soft_loss(scores: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """DeiT's soft distillation of scores (B, K): KL divergence at temperature ``tau``, times tau^2, over B * K."""
    student, teacher = ((s / tau).log_softmax(dim=1) for s in (scores, teacher))
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * tau**2 / scores.numel()


def hard_loss(scores: Tensor, teacher: Tensor) -> Tensor:
    """DeiT's hard distillation: cross-entropy of scores (B, K) with the teacher's decisions."""
    return F.cross_entropy(scores, teacher.argmax(dim=1))


class Teacher:
    """A frozen network beside the one that learns: in no state dict, in no average of weights, in no gradient.

    It is made when it is first needed: a model that only predicts needs no teacher's file.

    Args:
        cfg: of a model of timm ``dict(model_name=..., checkpoint=FILE, ...)``, of one of the registry
            ``dict(type=..., checkpoint=FILE, ...)``.

    Raises:
        ConfigError: no checkpoint is named.
    """

    def __init__(self, cfg: dict) -> None:
        self.cfg, self.model = dict(cfg), None
        if not self.cfg.get("checkpoint"):
            raise ConfigError(
                "distillation.teacher names no checkpoint, and an untrained teacher teaches nothing: set "
                "distillation.teacher.checkpoint to its weights"
            )

    def __deepcopy__(self, memo: dict) -> Teacher:
        return self  # an average of the student's weights shares its teacher

    def load(self) -> None:
        """Build the network and read its weights, once.

        Raises:
            CheckpointError: its file cannot be read or is of another model.
        """
        if self.model is None:
            cfg = dict(self.cfg)
            checkpoint = cfg.pop("checkpoint")
            model = MODELS.build(cfg) if "type" in cfg else create_timm(**cfg)
            load_into(model, checkpoint, logger="current")
            self.model = model.eval().requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The network itself, without the classifier around it."""
        return getattr(self.model, "backbone", self.model)

    @torch.no_grad()
    def __call__(self, images: Tensor, classes: int) -> Tensor:
        """Images (B, 3, h, w) -> scores (B, K).

        Raises:
            ConfigError: they are not of ``classes`` classes.
        """
        self.load()
        self.model.to(images.device)
        wrapped = self.network is not self.model
        scores = self.model(images, mode="tensor") if wrapped else self.model(images)
        if scores.shape[1] != classes:
            raise ConfigError(
                f"distillation.teacher knows {scores.shape[1]} classes and the model {classes}: give a "
                "teacher of the same data"
            )
        return scores


@dataclass
class Seen:
    """What a network's forward showed: the final map (B, N, C), and at which positions (B, N) of the grid its last
    block still computed a token."""

    tokens: Tensor | None = None
    kept: Tensor | None = None


@contextmanager
def watched(network: nn.Module) -> Iterator[Seen]:
    """``Seen`` of the one forward in the body; filled in when it ends."""
    seen = Seen()
    if not hasattr(network, "norm"):
        raise ConfigError(
            "DynamicViTDistillation compares final tokens, and a teacher of type "
            f"{type(network).__name__} has none: give a vision transformer"
        )
    handle = network.norm.register_forward_hook(lambda module, args, out: setattr(seen, "tokens", out))
    try:
        with Trace() as trace:
            yield seen
    finally:
        handle.remove()
    if trace.passes:  # a teacher that timm runs itself leaves none
        run = trace.passes[0]
        seen.kept = run.used[run.blocks[-1]].clone()
        seen.kept[:, : run.prefix] = False


class Distillation(ABC):
    """What a classifier asks of its distillation.

    Args:
        teacher: config of a ``Teacher``.
    """

    def __init__(self, teacher: dict) -> None:
        self.teacher = Teacher(teacher)

    def watch(self, network: nn.Module):
        """Context around the student's forward; what it gives is handed to ``losses`` as ``seen``."""
        return nullcontext()

    @abstractmethod
    def losses(self, base: Tensor, scores: Tensor, images: Tensor, seen: Seen | None) -> dict[str, Tensor]:
        """Losses to be summed: ``base`` is the one on the labels, ``scores`` (B, K) are those that follow the teacher
        (the distillation head's, where there is one)."""


@MODELS.register_module()
class DeiTDistillation(Distillation):
    """(1 - alpha) * base + alpha * distillation.

    Args:
        teacher: config of a ``Teacher``.
        kind: "soft" or "hard".
        alpha: weight of the teacher, 0 to 1.
        tau: temperature of "soft".

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, teacher: dict, kind: str = "hard", alpha: float = 0.5, tau: float = 1.0) -> None:
        super().__init__(teacher)
        if kind not in ("soft", "hard"):
            raise ValueError(f"distillation.kind is {kind!r}; choose 'soft' or 'hard', or distillation=None")
        if not 0 <= alpha <= 1 or not tau > 0:
            raise ValueError(f"distillation.alpha {alpha} must be in [0, 1] and tau {tau} greater than 0")
        self.kind, self.alpha, self.tau = kind, alpha, tau

    def losses(self, base: Tensor, scores: Tensor, images: Tensor, seen: Seen | None = None) -> dict[str, Tensor]:
        taught = self.teacher(images, scores.shape[1])
        followed = soft_loss(scores, taught, self.tau) if self.kind == "soft" else hard_loss(scores, taught)
        return dict(loss_cls=(1 - self.alpha) * base, loss_distill=self.alpha * followed)


@MODELS.register_module()
class DynamicViTDistillation(Distillation):
    """base + scores * KL(student, teacher) + tokens * mean squared distance of the final tokens that are still kept.

    The teacher is a vision transformer on the same grid, usually the dense model that training starts from.

    Args:
        teacher: config of a ``Teacher``.
        scores, tokens: weights, 0.5 each as published.
    """

    def __init__(self, teacher: dict, scores: float = 0.5, tokens: float = 0.5) -> None:
        super().__init__(teacher)
        self.weights = scores, tokens

    def watch(self, network: nn.Module):
        return watched(network)

    def losses(self, base: Tensor, scores: Tensor, images: Tensor, seen: Seen) -> dict[str, Tensor]:
        """Raises ConfigError when teacher and student do not have the same map."""
        self.teacher.load()
        with watched(self.teacher.network) as shown:
            taught = self.teacher(images, scores.shape[1])
        divergence = F.kl_div(
            scores.log_softmax(dim=1), taught.log_softmax(dim=1), reduction="batchmean", log_target=True
        )
        if seen.tokens.shape != shown.tokens.shape:
            raise ConfigError(
                f"the teacher's final map is {tuple(shown.tokens.shape)} and the student's "
                f"{tuple(seen.tokens.shape)}: distillation of tokens needs a teacher of the same size"
            )
        distance = (seen.tokens - shown.tokens).square().mean(dim=2)
        # Means over what is kept; nothing kept has no distance.
        distance = (distance * seen.kept).sum() / seen.kept.sum().clamp(min=1)
        return dict(
            loss_cls=base,
            loss_distill_scores=self.weights[0] * divergence,
            loss_distill_tokens=self.weights[1] * distance,
        )
