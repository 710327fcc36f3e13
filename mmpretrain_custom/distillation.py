"""Distillation from a teacher: DeiT's, soft or hard, and DynamicViT's on scores and kept tokens.

Shapes: B images, h x w pixels, K classes, N positions of the final map, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmcv_custom.checkpoint.load import load_into
from mmcv_custom.errors import ConfigError
from token_pruning import Trace
from token_pruning.errors import SettingError

from .vit import create_timm


def soft_loss(scores: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return DeiT's soft distillation loss of scores (B, K): KL at temperature ``tau``, times tau^2 / (B * K)."""
    student, teacher = ((s / tau).log_softmax(dim=1) for s in (scores, teacher))
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * tau**2 / scores.numel()


def hard_loss(scores: Tensor, teacher: Tensor) -> Tensor:
    """Return DeiT's hard distillation loss: cross-entropy of scores (B, K) with the teacher's predicted classes."""
    return F.cross_entropy(scores, teacher.argmax(dim=1))


class Teacher:
    """A frozen network that stays out of the student's state dict, of its weight average and of all gradients.

    It is built when it is first needed, so that a model used only for prediction needs no teacher checkpoint.

    Args:
        cfg: ``dict(model_name=..., checkpoint=FILE, ...)`` for a timm model, ``dict(type=..., checkpoint=FILE, ...)``
            for a registered one.

    Raises:
        ConfigError: no checkpoint is named.
    """

    def __init__(self, cfg: dict) -> None:
        self.cfg = dict(cfg)
        self.model: nn.Module | None = None
        if not self.cfg.get("checkpoint"):
            raise ConfigError(
                "distillation.teacher has no checkpoint, and an untrained teacher is useless: set "
                "distillation.teacher.checkpoint to its weights"
            )

    def __deepcopy__(self, memo: dict) -> Teacher:
        return self  # the weight average of the student shares its teacher

    def load(self) -> None:
        """Build the network and load its weights, once.

        Raises:
            CheckpointError: the checkpoint cannot be read or belongs to another model.
        """
        if self.model is None:
            cfg = dict(self.cfg)
            checkpoint = cfg.pop("checkpoint")
            model = MODELS.build(cfg) if "type" in cfg else create_timm(**cfg)
            load_into(model, checkpoint, logger="current")
            self.model = model.eval().requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The network without a classifier around it."""
        return getattr(self.model, "backbone", self.model)

    @torch.no_grad()
    def __call__(self, images: Tensor, classes: int) -> Tensor:
        """Return the scores (B, K) of images (B, 3, h, w).

        Raises:
            ConfigError: K is not ``classes``.
        """
        self.load()
        self.model.to(images.device)
        wrapped = self.network is not self.model
        scores = self.model(images, mode="tensor") if wrapped else self.model(images)
        if scores.shape[1] != classes:
            raise ConfigError(
                f"distillation.teacher has {scores.shape[1]} classes and the model {classes}: give a teacher "
                "trained on the same classes"
            )
        return scores


@dataclass
class FinalTokens:
    """The result of a network's forward pass.

    Attributes:
        tokens: (B, N, C) final map.
        kept: (B, N) bool, the grid positions whose token the last block still computed.
    """

    tokens: Tensor | None = None
    kept: Tensor | None = None


@contextmanager
def record_final_tokens(network: nn.Module) -> Iterator[FinalTokens]:
    """Record the final tokens of the one forward pass in the body; they are filled in at its end."""
    final = FinalTokens()
    if not hasattr(network, "norm"):
        raise ConfigError(
            "DynamicViTDistillation compares final tokens, and a teacher of type "
            f"{type(network).__name__} has none: give a vision transformer"
        )
    handle = network.norm.register_forward_hook(lambda module, args, out: setattr(final, "tokens", out))
    try:
        with Trace() as trace:
            yield final
    finally:
        handle.remove()
    if trace.passes:  # a teacher that timm runs by itself has no trace
        run = trace.passes[0]
        final.kept = run.used[run.blocks[-1]].clone()
        final.kept[:, : run.prefix] = False


class Distillation(ABC):
    """Base class: the interface between a classifier and its distillation.

    Args:
        teacher: config of a ``Teacher``.
    """

    def __init__(self, teacher: dict) -> None:
        self.teacher = Teacher(teacher)

    def recording(self, network: nn.Module) -> AbstractContextManager[FinalTokens | None]:
        """Return a context for the student's forward pass; its value is passed to ``losses`` as ``student``."""
        return nullcontext()

    @abstractmethod
    def losses(
        self, base: Tensor, scores: Tensor, images: Tensor, student: FinalTokens | None = None
    ) -> dict[str, Tensor]:
        """Return the losses to be summed.

        Args:
            base: loss on the labels.
            scores: (B, K) that learn from the teacher: the distillation head's, if there is one.
            images: (B, 3, h, w), input of the teacher.
            student: recorded final tokens of the student.
        """


@MODELS.register_module()
class DeiTDistillation(Distillation):
    """DeiT's loss, (1 - alpha) * base + alpha * distillation.

    Args:
        teacher: config of a ``Teacher``.
        kind: "soft" or "hard".
        alpha: weight of the teacher, 0 to 1.
        tau: temperature of "soft".

    Raises:
        SettingError: an argument is out of its range.
    """

    def __init__(self, teacher: dict, kind: str = "hard", alpha: float = 0.5, tau: float = 1.0) -> None:
        super().__init__(teacher)
        if kind not in ("soft", "hard"):
            raise SettingError(f"distillation.kind is {kind!r}; choose 'soft' or 'hard', or distillation=None")
        if not 0 <= alpha <= 1 or not tau > 0:
            raise SettingError(f"distillation.alpha {alpha} must be in [0, 1] and tau {tau} greater than 0")
        self.kind, self.alpha, self.tau = kind, alpha, tau

    def losses(
        self, base: Tensor, scores: Tensor, images: Tensor, student: FinalTokens | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted losses on the labels and on the teacher's scores."""
        taught = self.teacher(images, scores.shape[1])
        followed = soft_loss(scores, taught, self.tau) if self.kind == "soft" else hard_loss(scores, taught)
        return dict(loss_cls=(1 - self.alpha) * base, loss_distill=self.alpha * followed)


@MODELS.register_module()
class DynamicViTDistillation(Distillation):
    """DynamicViT's loss, base + scores * KL(student, teacher) + tokens * MSE of the kept final tokens.

    The teacher is a vision transformer on the same grid, usually the dense model that training starts from.

    Args:
        teacher: config of a ``Teacher``.
        scores, tokens: weights of the two terms, 0.5 each as published.
    """

    def __init__(self, teacher: dict, scores: float = 0.5, tokens: float = 0.5) -> None:
        super().__init__(teacher)
        self.weights = scores, tokens

    def recording(self, network: nn.Module) -> AbstractContextManager[FinalTokens]:
        """Record the student's final tokens."""
        return record_final_tokens(network)

    def losses(
        self, base: Tensor, scores: Tensor, images: Tensor, student: FinalTokens | None = None
    ) -> dict[str, Tensor]:
        """Return the losses on labels, scores and tokens.

        Raises:
            ConfigError: the final maps of teacher and student differ in shape.
        """
        self.teacher.load()
        with record_final_tokens(self.teacher.network) as teacher:
            taught = self.teacher(images, scores.shape[1])
        divergence = F.kl_div(
            scores.log_softmax(dim=1), taught.log_softmax(dim=1), reduction="batchmean", log_target=True
        )
        if student.tokens.shape != teacher.tokens.shape:
            raise ConfigError(
                f"the teacher's final map is {tuple(teacher.tokens.shape)} and the student's "
                f"{tuple(student.tokens.shape)}: distillation of tokens needs a teacher of the same size"
            )
        distance = (student.tokens - teacher.tokens).square().mean(dim=2)
        # The mean over kept tokens, 0 if none is kept.
        distance = (distance * student.kept).sum() / student.kept.sum().clamp(min=1)
        return dict(
            loss_cls=base,
            loss_distill_scores=self.weights[0] * divergence,
            loss_distill_tokens=self.weights[1] * distance,
        )
