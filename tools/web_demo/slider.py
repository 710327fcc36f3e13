"""The slider of a model: its reducer's own dial, over the values that make a difference."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmcv_custom.calibration.search_space import Dial, cost_dial
from mmcv_custom.errors import ConfigError
from token_pruning.reducer import find_method

STEP = 0.01  # of dials that are no whole numbers
WORDS = {
    "keep_ratio": "share of the tokens that pruning keeps",
    "ratio_scale": "factor on the learned keep ratios",
    "r": "tokens that each block takes away",
    "threshold": "confidence from which tokens stop",
}


@dataclass(frozen=True)
class Slider:
    """Positions from ``low`` to ``high`` in steps of ``step``; ``start`` is the config's own setting (None: it says it
    in other terms than the dial)."""

    dial: Dial
    low: float
    high: float
    step: float
    start: float | None

    def arguments(self, position: float) -> dict[str, object]:
        """Of the reducer. Raises ConfigError for a position that the slider does not have."""
        if not self.low <= position <= self.high:  # also NaN
            raise ConfigError(f"{self.dial.name} = {position:g} is out of range: give {self.low:g} to {self.high:g}")
        return {self.dial.name: self.dial.value(int(position) if self.step == 1 else position)}

    def to_dict(self) -> dict:
        words = f"factor on the config's {self.dial.name} of every block"
        if self.dial.entries is None:
            words = WORDS.get(self.dial.name, "the method's own dial")
        return dict(name=self.dial.name, words=words, low=self.low, high=self.high, step=self.step, start=self.start)


def make_slider(reducer: Mapping, tokens: int, blocks: int) -> Slider:
    """The slider of a reducer's config.

    Args:
        reducer: ``dict(type=METHOD, ...)``.
        tokens: positions of the map of some picture.
        blocks: how many may run on a subset.
    """
    method = find_method(reducer["type"])
    name = method.dial[0]
    start = reducer.get(name, inspect.signature(method).parameters[name].default)
    if name == "keep_ratio" and reducer.get("r") is not None:  # two ways to say the same; the slider turns one
        reducer, start = {key: value for key, value in reducer.items() if key != "r"}, None
    dial = cost_dial(reducer, name, tokens)
    if dial.entries is not None:
        start = 1.0
    elif name == "ratio_scale":
        dial = replace(dial, high=_keeps_all(reducer.get("keep_ratio", 0.7)))
    elif dial.whole:
        high = min(dial.high, max(2 * start, tokens // max(blocks, 1)))
        return Slider(dial, dial.low, high, 1, start)
    return Slider(dial, STEP, math.ceil(round(dial.high / STEP, 6)) * STEP, STEP, start)


def _keeps_all(ratios: object) -> float:
    """The factor from which on every block keeps all."""
    return 1 / min([ratios] if isinstance(ratios, (int, float)) else ratios)
