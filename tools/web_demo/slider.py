"""The slider of a model: its reducer's own cost parameter, over the values that make a difference."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmcv_custom.calibration.search_space import CostParam, cost_param_of
from mmcv_custom.errors import ConfigError
from token_pruning.reducer import find_method

STEP = 0.01  # of cost parameters that are no whole numbers
WORDS = {
    "keep_ratio": "share of the tokens that pruning keeps",
    "ratio_scale": "factor on the learned keep ratios",
    "r": "tokens that each block takes away",
    "threshold": "confidence from which tokens stop",
}


@dataclass(frozen=True)
class Slider:
    """Positions from ``low`` to ``high`` in steps of ``step``; ``start`` is the config's own setting (None: it says it
    in other terms than the cost parameter)."""

    cost_param: CostParam
    low: float
    high: float
    step: float
    start: float | None

    def arguments(self, position: float) -> dict[str, object]:
        """Of the reducer. Raises ConfigError for a position that the slider does not have."""
        if not self.low <= position <= self.high:  # also NaN
            raise ConfigError(
                f"{self.cost_param.name} = {position:g} is out of range: give {self.low:g} to {self.high:g}"
            )
        return {self.cost_param.name: self.cost_param.value(int(position) if self.step == 1 else position)}

    def to_dict(self) -> dict:
        words = f"factor on the config's {self.cost_param.name} of every block"
        if self.cost_param.entries is None:
            words = WORDS.get(self.cost_param.name, "the method's own cost parameter")
        return dict(
            name=self.cost_param.name, words=words, low=self.low, high=self.high, step=self.step, start=self.start
        )


def make_slider(reducer: Mapping, tokens: int, blocks: int) -> Slider:
    """The slider of a reducer's config.

    Args:
        reducer: ``dict(type=METHOD, ...)``.
        tokens: positions of the map of some image.
        blocks: how many may run on a subset.
    """
    method = find_method(reducer["type"])
    name = method.cost_param[0]
    start = reducer.get(name, inspect.signature(method).parameters[name].default)
    if name == "keep_ratio" and reducer.get("r") is not None:  # two ways to say the same; the slider turns one
        reducer, start = {key: value for key, value in reducer.items() if key != "r"}, None
    cost_param = cost_param_of(reducer, name, tokens)
    if cost_param.entries is not None:
        start = 1.0
    elif name == "ratio_scale":
        cost_param = replace(cost_param, high=_keeps_all(reducer.get("keep_ratio", 0.7)))
    elif cost_param.whole:
        high = min(cost_param.high, max(2 * start, tokens // max(blocks, 1)))
        return Slider(cost_param, cost_param.low, high, 1, start)
    return Slider(cost_param, STEP, math.ceil(round(cost_param.high / STEP, 6)) * STEP, STEP, start)


def _keeps_all(ratios: object) -> float:
    """The factor from which on every block keeps all."""
    return 1 / min([ratios] if isinstance(ratios, (int, float)) else ratios)
