"""Search space of a reducer's argument: an interval of positions, and the value in the config at each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from token_pruning import METHODS
from token_pruning.reducer import find_method

from ..errors import ConfigError

MIN_POSITION = 0.001  # lowest position of a cost parameter whose range excludes its lower end, 0
DECIMALS = 4  # of a position
THRESHOLDS = (1e-12, 1.0)  # PPT's threshold is on the variance of scores that sum to 1, which is at most 1


@dataclass(frozen=True)
class CostParam:
    """Interval [low, high] of positions of the argument ``name``.

    Attributes:
        whole: values are integers.
        logarithmic: bisect on a logarithmic scale, with three significant digits.
        entries: the config's list with one entry per block; the position is then the factor that scales all entries.
        limit: largest value of a scaled entry.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    logarithmic: bool = False
    entries: tuple[float, ...] | None = None
    limit: float = 1.0

    def value(self, position: float) -> float | list[float]:
        """Return the value in the config at a position."""
        if self.entries is None:
            return position
        scaled = [min(entry * position, self.limit) for entry in self.entries]
        return [round(entry) if self.whole else round(entry, DECIMALS) for entry in scaled]

    def between(self, low: float, high: float) -> float | None:
        """Return a position near the middle of two others; None if there is none between them."""
        if self.logarithmic:
            middle = float(f"{(low * high) ** 0.5:.3g}")
        elif self.whole and self.entries is None:
            middle = (low + high) // 2
        else:
            middle = round((low + high) / 2, DECIMALS)
        return middle if low < middle < high else None

    @property
    def words(self) -> str:
        """The argument in words."""
        scaled = "" if self.entries is None else f", its {len(self.entries)} entries scaled by one factor"
        return f"{self.name}{scaled}"


def cost_param_of(reducer: Mapping, name: str | None, grid_tokens: int) -> CostParam:
    """Return the search space of the argument that sets how much a reducer computes.

    Args:
        reducer: its config, ``dict(type=METHOD, ...)``.
        name: name of the argument; None for the method's own ``cost_param``.
        grid_tokens: tokens of the smallest grid.

    Raises:
        ConfigError: the method does not have the argument, or it does not set the cost.
    """
    method = find_method(reducer["type"])
    ranges = {other.cost_param[0]: other.cost_param[1:] for other in METHODS.values()} | {
        method.cost_param[0]: method.cost_param[1:]
    }
    known = inspect.signature(method).parameters
    name = name or method.cost_param[0]
    if name not in known:
        raise ConfigError(
            f"reducer {reducer['type']} has no {name} to search; its cost parameter is {method.cost_param[0]}"
        )
    if name == "threshold" and hasattr(method, "decide"):
        raise ConfigError(
            f"the threshold does not change the cost of {reducer['type']}, only whether tokens are pruned or pooled: "
            "give --pool-share"
        )
    if name not in ranges:
        raise ConfigError(f"{name} of {reducer['type']} does not set the cost; search {method.cost_param[0]} instead")
    if name == "keep_ratio" and reducer.get("r") is not None:
        raise ConfigError(
            f"the config sets how many tokens {reducer['type']} removes by r, so keep_ratio cannot: set "
            "model.backbone.reducer.r=None and a keep_ratio"
        )
    if name == "merges" and reducer.get("blocks") is not None:
        raise ConfigError(
            f"the config sets before which blocks {reducer['type']} merges, so merges cannot: set "
            "model.backbone.reducer.blocks=None"
        )
    low, high = ranges[name]
    given = reducer.get(name, known[name].default)
    given = high if given is None else given
    entries = None if isinstance(given, (int, float)) else tuple(given)
    numbers = [given] if entries is None else entries
    whole = isinstance(high, int)
    if whole and any(isinstance(n, float) and n < 1 for n in numbers):
        whole, high = False, 0.5  # fractions of the grid; a block can merge at most half of its tokens
    elif whole:
        # A block removes at most half of the tokens, CubistMerge half of a window's lines.
        lines = reducer.get("window_size")
        high = max(min(high, grid_tokens // 2 if lines is None else lines // 2), low + 1)
    low = low if whole or low else MIN_POSITION
    if entries is None:
        return CostParam(name, low, high, whole)
    if not any(numbers):
        raise ConfigError(f"{name} = {given} of {reducer['type']} is scaled as a list and has no entry above 0")
    return CostParam(name, MIN_POSITION, high / min(n for n in numbers if n), whole, entries=entries, limit=high)


def pool_threshold(reducer: Mapping, grid_tokens: int) -> CostParam:
    """Return the search space of PPT's threshold between pruning and pooling.

    Raises:
        ConfigError: the method does not decide between them.
    """
    if not hasattr(find_method(reducer["type"]), "decide"):
        raise ConfigError(
            f"reducer {reducer['type']} does not decide between pruning and pooling, so it has no "
            "threshold for --pool-share; PPT has one"
        )
    least, most = THRESHOLDS
    return CostParam("threshold", least, most * grid_tokens**2 if reducer.get("relative") else most, logarithmic=True)
