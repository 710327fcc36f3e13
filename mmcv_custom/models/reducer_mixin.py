"""The mix-in that makes any OpenMMLab model train its backbone's reducer."""

from __future__ import annotations

from token_pruning import collect_losses
from token_pruning.auxiliary import Criterion

from ..errors import ConfigError


class ReducerLosses:
    """Mix-in in front of a detector, segmentor or classifier: adds what the reducer reports (ratio loss, auxiliary
    losses, kept fraction of each block) to its training losses. A subclass for a task gives the ``criterion`` that
    methods with auxiliary heads (Cropr) learn by.

    Args:
        frozen: only the reducer learns; all else stays as it was loaded, and in evaluation mode.
        model: arguments of the model.

    Raises:
        ConfigError: ``frozen``, and the reducer has nothing to learn.
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
        """What auxiliary heads are to learn of these images; a model of a task without an answer says None."""
        return None

    def loss(self, inputs, data_samples, *args, **kwargs) -> dict:
        reducer = getattr(self.backbone, "reducer", None)
        criterion = self.criterion(data_samples) if reducer is not None and reducer.has_aux_heads else None
        with collect_losses(criterion) as reported:
            losses = super().loss(inputs, data_samples, *args, **kwargs)
        return {**losses, **reported}
