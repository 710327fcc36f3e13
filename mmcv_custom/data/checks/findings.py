"""Findings of a check by kind, each kind told in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

EXAMPLES = 3


class Findings:
    """Problems by kind, with their number and first examples."""

    def __init__(self) -> None:
        self.examples: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()
        self.advice: dict[str, str] = {}

    def add(self, kind: str, example: object, advice: str) -> None:
        """Record one problem, and what to do about its kind."""
        self.counts[kind] += 1
        self.advice[kind] = advice
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(str(example))

    def sentences(self, where: object) -> Iterator[str]:
        """Yield one sentence for each kind of problem; ``where`` names the checked file."""
        for kind, examples in self.examples.items():
            more = ", ..." if self.counts[kind] > len(examples) else ""
            yield f"{where}: {self.counts[kind]} {kind} ({', '.join(examples)}{more}); {self.advice[kind]}"
