"""Which methods are compared off the shelf, and at which values of their cost parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from token_pruning.reducer import METHODS

# Four values of a cost parameter: of methods that keep a fraction of the tokens, and of those that remove a number.
KEEP_RATIOS = (0.9, 0.7, 0.5, 0.3)
TOKENS = (4, 8, 12, 16)
# For the methods that need others.
VALUES = {
    "PPT": (20, 35, 50, 65),  # it removes tokens in three blocks only
    "CubistMerge": (1, 2, 3, 4),  # rows and columns
    "APT": (4.0, 5.0, 5.5, 6.0),  # bits
    "MPM": (1, 2, 3, 4),  # merges, each of about a quarter of the tokens
    "PiToMe": (0.975, 0.95, 0.9, 0.85),  # of every block
    "ALGM": (0.95, 0.9, 0.85, 0.8),  # similarity of windows
}
# Further options of a method, compared beside its defaults. Without the sizes of merged tokens, attention can run as
# flash attention on a GPU; by representation shift, EViT needs no class token.
VARIANTS = {"ToMe": {"prop_attn": False}, "EViT": {"score": "representation_shift"}}


@dataclass(frozen=True)
class Setting:
    """A method at one value of its cost parameter; without a method, the dense network."""

    method: str | None = None
    cost_value: float | None = None
    variant: bool = False

    @property
    def cost_param(self) -> str | None:
        """Name of the argument of the method that is set."""
        return METHODS[self.method].cost_param[0] if self.method else None

    @property
    def options(self) -> dict:
        """Further options of the method."""
        return VARIANTS[self.method] if self.variant else {}

    @property
    def name(self) -> str | None:
        """The method with its further options."""
        options = [f"{key}={value}" for key, value in self.options.items()]
        return " ".join([self.method, *options]) if self.method else None

    @property
    def reducer(self) -> dict | None:
        """Config of the reducer."""
        return {"type": self.method, self.cost_param: self.cost_value, **self.options} if self.method else None

    def __str__(self) -> str:
        return f"{self.name} {self.cost_param}={self.cost_value:g}" if self.method else "dense"


def candidates() -> list[str]:
    """Return the registered methods that work without training."""
    return [name for name, method in METHODS.items() if not (method.needs_training or method.needs_class_scores)]


def all_settings(
    methods: Sequence[str] | None = None, values: Mapping[str, Sequence[float]] | None = None
) -> list[Setting]:
    """Return the dense network and every method that works without training, at four settings each.

    Args:
        methods: only these.
        values: method -> values of its cost parameter, before those of ``VALUES``.
    """
    found, known = [Setting()], {**VALUES, **(values or {})}
    for name in candidates() if methods is None else methods:
        whole = isinstance(METHODS[name].cost_param[1], int)
        own = known.get(name, TOKENS if whole else KEEP_RATIOS)
        variants = (False, True) if name in VARIANTS else (False,)
        found += [Setting(name, value, variant) for variant in variants for value in own]
    return found
