"""Turning a reducer: with other arguments and the weights that it has."""

from __future__ import annotations

from collections.abc import Mapping

from token_pruning import Reducer, build_reducer


def reconfigured(reducer: Reducer, given: Mapping, **arguments: object) -> Reducer:
    """A new reducer of the config ``given`` but for ``arguments``, with the weights of ``reducer``, in evaluation.

    Raises:
        ValueError: an argument that the method does not have, a value outside its range, or one that needs weights of
            another shape.
    """
    new = build_reducer({**given, **arguments}, reducer.embed_dim, reducer.depth)
    try:
        new.load_state_dict(reducer.state_dict())
    except RuntimeError:
        raise ValueError("it needs weights of another shape, so it is set in the config and trained with") from None
    weight = next(reducer.parameters(), None)
    return new.eval() if weight is None else new.to(weight.device).eval()
