"""Bisection: find the position of a cost parameter at which a monotone cost has a wanted value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Flat(ValueError):
    """The cost is the same at both ends of the cost parameter."""


class OutOfReach(ValueError):
    """The wanted cost lies outside ``reach``, the costs (least, most) at the ends of the cost parameter."""

    def __init__(self, reach: tuple[float, float]) -> None:
        super().__init__(f"only values from {reach[0]} to {reach[1]} can be reached")
        self.reach = reach


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes:
        best: position whose cost is nearest to the wanted one.
        below, above: positions with the nearest cost that is at most, and at least, the wanted one.
        costs: position -> cost, for all positions that were tried.
    """

    best: float
    below: float
    above: float
    costs: dict[float, float]


def bisect(
    cost: Callable[[float], float],
    low: float,
    high: float,
    between: Callable[[float, float], float | None],
    wanted: float,
    tolerance: float,
    steps: int = 40,
) -> Found:
    """Halve [low, high] until a cost is within ``tolerance`` of ``wanted``, no position is left, or ``steps`` are done.

    Args:
        cost: from a position to its cost; rising or falling. With a noisy cost the result is approximate.
        between: from two positions to one strictly between them, or None.
        tolerance: in the unit of the cost.

    Raises:
        Flat: the cost does not depend on the position.
        OutOfReach: no position has the wanted cost.
    """
    costs = {low: cost(low), high: cost(high)}
    if costs[low] == costs[high]:
        raise Flat
    least, most = sorted(costs.values())
    if not least - tolerance <= wanted <= most + tolerance:
        raise OutOfReach((least, most))
    rising = costs[high] > costs[low]
    while steps and all(abs(value - wanted) > tolerance for value in costs.values()):
        middle = between(low, high)
        if middle is None:
            break
        costs[middle] = cost(middle)
        if (costs[middle] < wanted) == rising:
            low = middle
        else:
            high = middle
        steps -= 1
    best = min(costs, key=lambda x: abs(costs[x] - wanted))
    below = max((x for x in costs if costs[x] <= wanted), key=costs.get, default=best)
    above = min((x for x in costs if costs[x] >= wanted), key=costs.get, default=best)
    return Found(best, below, above, costs)
