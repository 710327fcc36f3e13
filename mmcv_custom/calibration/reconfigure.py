"""Change the arguments of a reducer and keep its weights."""

from __future__ import annotations

from collections.abc import Mapping

from token_pruning import Reducer, build_reducer


def reconfigured(reducer: Reducer, config: Mapping, **arguments: object) -> Reducer:
    """Return a new reducer in evaluation mode, with the weights of ``reducer``.

    Args:
        config: config of ``reducer`` (``dict(type=METHOD, ...)``).
        arguments: replace those of ``config``.

    Raises:
        ValueError: the method does not have an argument, a value is out of range, or it needs weights of another shape.
    """
    new = build_reducer({**config, **arguments}, reducer.embed_dim, reducer.depth)
    try:
        new.load_state_dict(reducer.state_dict())
    except RuntimeError:
        raise ValueError("it needs weights of another shape, so set it in the config and train with it") from None
    weight = next(reducer.parameters(), None)
    return new.eval() if weight is None else new.to(weight.device).eval()
