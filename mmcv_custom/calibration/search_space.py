"""One of a reducer's arguments as a search sees it: an interval of positions, and what a config says at each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from token_pruning import METHODS
from token_pruning.reducer import find_method

from ..errors import ConfigError

LEAST = 0.001  # of a cost parameter whose lowest value is 0 and not allowed itself
FINEST = 4  # decimals
THRESHOLDS = (1e-12, 1.0)  # scores that sum to one have no larger variance


@dataclass(frozen=True)
class CostParam:
    """The interval [low, high] of positions of the argument ``name``.

    Attributes:
        whole: only whole numbers are values.
        logarithmic: halved by ratio, in three significant digits.
        entries: the config's list, one entry for each block: the position is then the factor that all are scaled by.
        limit: what an entry may be at most.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    logarithmic: bool = False
    entries: tuple[float, ...] | None = None
    limit: float = 1.0

    def value(self, position: float) -> float | list[float]:
        """What the config says there."""
        if self.entries is None:
            return position
        scaled = [min(entry * position, self.limit) for entry in self.entries]
        return [round(entry) if self.whole else round(entry, FINEST) for entry in scaled]

    def between(self, low: float, high: float) -> float | None:
        """About the middle of two positions; None when they are neighbours."""
        if self.logarithmic:
            middle = float(f"{(low * high) ** 0.5:.3g}")
        elif self.whole and self.entries is None:
            middle = (low + high) // 2
        else:
            middle = round((low + high) / 2, FINEST)
        return middle if low < middle < high else None

    @property
    def words(self) -> str:
        """What is turned, for people."""
        scaled = "" if self.entries is None else f", its {len(self.entries)} entries scaled as a whole"
        return f"{self.name}{scaled}"


def cost_param_of(reducer: Mapping, name: str | None, grid: int) -> CostParam:
    """The cost parameter of a reducer's config that sets how much is computed.

    Args:
        reducer: ``dict(type=METHOD, ...)``.
        name: of the argument; None for the method's own cost parameter.
        grid: positions of the smallest map.

    Raises:
        ConfigError: the method does not have it, or it is none that sets the cost.
    """
    method = find_method(reducer["type"])
    ranges = {other.cost_param[0]: other.cost_param[1:] for other in METHODS.values()} | {
        method.cost_param[0]: method.cost_param[1:]
    }
    known = inspect.signature(method).parameters
    name = name or method.cost_param[0]
    if name not in known:
        raise ConfigError(
            f"reducer {reducer['type']} has no {name} to turn; its cost parameter is {method.cost_param[0]}"
        )
    if name == "threshold" and hasattr(method, "decide"):
        raise ConfigError(
            f"the threshold does not change the cost of {reducer['type']}, only what becomes of tokens: "
            "give --pool-share"
        )
    if name not in ranges:
        raise ConfigError(
            f"{name} of {reducer['type']} sets no cost that could be searched for; turn {method.cost_param[0]}"
        )
    if name == "keep_ratio" and reducer.get("r") is not None:
        raise ConfigError(
            f"the config says by r how many tokens {reducer['type']} takes, and keep_ratio would say it "
            "again: set model.backbone.reducer.r=None and a keep_ratio"
        )
    low, high = ranges[name]
    given = reducer.get(name, known[name].default)
    given = high if given is None else given
    entries = None if isinstance(given, (int, float)) else tuple(given)
    numbers = [given] if entries is None else entries
    whole = isinstance(high, int)
    if whole and any(isinstance(n, float) and n < 1 for n in numbers):
        whole, high = False, 0.5  # shares of the grid; a block can merge half of its tokens at most
    elif whole:
        high = max(min(high, grid // 2), low + 1)
    low = low if whole or low else LEAST
    if entries is None:
        return CostParam(name, low, high, whole)
    if not any(numbers):
        raise ConfigError(f"{name} = {given} of {reducer['type']} is scaled as a whole and has no entry above 0")
    return CostParam(name, LEAST, high / min(n for n in numbers if n), whole, entries=entries, limit=high)


def threshold_dial(reducer: Mapping, grid: int) -> CostParam:
    """The threshold between pruning and pooling.

    Raises:
        ConfigError: the method makes no such decision.
    """
    if not hasattr(find_method(reducer["type"]), "decide"):
        raise ConfigError(
            f"reducer {reducer['type']} does not decide between pruning and pooling, so it has no "
            "threshold for --pool-share: that is PPT's"
        )
    least, most = THRESHOLDS
    return CostParam("threshold", least, most * grid**2 if reducer.get("relative") else most, logarithmic=True)
