"""The slider of a model: the cost parameter of its reducer, over the values that make a difference."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmcv_custom.calibration.search_space import CostParam, cost_param_of
from mmcv_custom.errors import ConfigError
from token_pruning.reducer import find_method

STEP = 0.01  # of cost parameters that are not integers
WORDS = {
    "keep_ratio": "fraction of the tokens that pruning keeps",
    "ratio_scale": "factor on the learned keep ratios",
    "r": "tokens that each block removes",
    "merges": "how often tokens are merged",
    "threshold": "confidence from which tokens exit, or similarity from which they are merged",
}


@dataclass(frozen=True)
class Slider:
    """A range of positions with a step.

    Attributes:
        cost_param: argument that the slider sets.
        low, high, step: positions.
        start: position of the config's own setting; None if the config sets the cost by another argument.
    """

    cost_param: CostParam
    low: float
    high: float
    step: float
    start: float | None

    def arguments(self, position: float) -> dict[str, object]:
        """Return the reducer's arguments at a position; raise ConfigError if the slider does not have it."""
        if not self.low <= position <= self.high:  # also NaN
            raise ConfigError(
                f"{self.cost_param.name} = {position:g} is out of range: give {self.low:g} to {self.high:g}"
            )
        return {self.cost_param.name: self.cost_param.value(int(position) if self.step == 1 else position)}

    def to_dict(self) -> dict:
        """Return what the page shows of the slider."""
        words = f"factor on the {self.cost_param.name} of every block in the config"
        if self.cost_param.entries is None:
            words = WORDS.get(self.cost_param.name, "cost parameter of the method")
        return dict(
            name=self.cost_param.name, words=words, low=self.low, high=self.high, step=self.step, start=self.start
        )


def make_slider(reducer: Mapping, tokens: int, blocks: int) -> Slider:
    """Return the slider for a reducer.

    Args:
        reducer: its config, ``dict(type=METHOD, ...)``.
        tokens: tokens of the grid of a typical image.
        blocks: number of pruned blocks.
    """
    method = find_method(reducer["type"])
    name = method.cost_param[0]
    start = reducer.get(name, inspect.signature(method).parameters[name].default)
    if name == "keep_ratio" and reducer.get("r") is not None:  # both set the cost; the slider sets keep_ratio
        reducer, start = {key: value for key, value in reducer.items() if key != "r"}, None
    cost_param = cost_param_of(reducer, name, tokens)
    if cost_param.entries is not None:
        start = 1.0
    elif name == "ratio_scale":
        cost_param = replace(cost_param, high=_keeps_all(reducer.get("keep_ratio", 0.7)))
    elif cost_param.whole:
        high = min(cost_param.high, max(2 * (start or 0), tokens // max(blocks, 1)))
        return Slider(cost_param, cost_param.low, high, 1, start)
    low = max(STEP, cost_param.low)
    return Slider(cost_param, low, math.ceil(round(cost_param.high / STEP, 6)) * STEP, STEP, start)


def _keeps_all(ratios: object) -> float:
    """Return the least factor with which every block keeps all tokens."""
    return 1 / min([ratios] if isinstance(ratios, (int, float)) else ratios)
