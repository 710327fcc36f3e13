"""The mix-in that makes any OpenMMLab model train its backbone's reducer."""

from __future__ import annotations

from token_pruning import collect_losses


class ReducerLosses:
    """Mix-in in front of a detector, segmentor or classifier: adds what the reducer reports (ratio loss, kept fraction
    of each block) to its training losses. ``@MODELS.register_module() class PrunedATSS(ReducerLosses, ATSS): ...`` is
    all that another model needs."""

    def loss(self, *args, **kwargs) -> dict:
        with collect_losses() as reported:
            losses = super().loss(*args, **kwargs)
        return {**losses, **reported}
