"""Mix-in that trains the reducer of an OpenMMLab model's backbone."""

from __future__ import annotations

from token_pruning import collect_losses
from token_pruning.auxiliary import Criterion

from ..errors import ConfigError


class ReducerLosses:
    """Mix-in for detectors, segmentors and classifiers that adds the reducer's losses to the training losses.

    These are its ratio loss, auxiliary losses and, for logging, the kept fraction of each block. A subclass for a task
    supplies the ``criterion`` that trains auxiliary heads (Cropr).

    Args:
        frozen: train the reducer only; all else keeps its loaded weights and stays in evaluation mode.
        model: arguments of the model.

    Raises:
        ConfigError: ``frozen``, and the reducer has no weights.
    """

    def __init__(self, *args, frozen: bool = False, **model) -> None:
        super().__init__(*args, **model)
        self.frozen = frozen
        if frozen:
            reducer = getattr(self.backbone, "reducer", None)
            self.requires_grad_(False)
            if reducer is None or not list(reducer.requires_grad_(True).parameters()):
                raise ConfigError(
                    "frozen=True leaves only the reducer to learn, and the backbone's has no weights: "
                    "give it one that has (Cropr, SViT, DynamicViT), or frozen=False"
                )

    def train(self, mode: bool = True):
        super().train(mode)
        if mode and self.frozen:
            for child in self.children():
                child.eval()
            self.backbone.reducer.train()
        return self

    def criterion(self, data_samples) -> Criterion | None:
        """Return the criterion of the auxiliary heads for these images; None for a task without one."""
        return None

    def loss(self, inputs, data_samples, *args, **kwargs) -> dict:
        reducer = getattr(self.backbone, "reducer", None)
        criterion = self.criterion(data_samples) if reducer is not None and reducer.has_aux_heads else None
        with collect_losses(criterion) as reported:
            losses = super().loss(inputs, data_samples, *args, **kwargs)
        return {**losses, **reported}
