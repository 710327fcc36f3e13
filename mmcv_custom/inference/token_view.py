"""Which tokens of one image each block computed, as numbers and as images.

A forward runs on the whole image, or on the positions of a sliding window, each with its own trace.

Shapes: L blocks, H x W grid of tokens, h x w pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from token_pruning import PassTrace
from token_pruning.analysis import plot, sheet
from token_pruning.analysis.keep_ratio import mean_keep_ratio

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MIN_SIDE = 480  # pixels: images whose longer side is shorter are enlarged to about this


@dataclass(frozen=True)
class Window:
    """Part of the network's input, its top left corner at (``y``, ``x``), and the trace of its forward (B is 1)."""

    y: int
    x: int
    trace: PassTrace

    @cached_property
    def states(self) -> np.ndarray:
        """(L, H, W) states as ``token_pruning.analysis.plot.token_states`` returns them; cached."""
        return plot.token_states(self.trace)


@dataclass(frozen=True, repr=False, eq=False)
class TokenView:
    """Which tokens of one image each block computed.

    Attributes:
        image: (h, w, 3) uint8 RGB, the network's input without padding.
        windows: in the order of their forwards; where they overlap, images show the later one.
        patch: side of a token in pixels.
        pruned_blocks: blocks that may run on a subset of the tokens; none in a dense model.
    """

    image: np.ndarray
    windows: tuple[Window, ...]
    patch: int
    pruned_blocks: tuple[int, ...] = ()

    def __repr__(self) -> str:
        grids = dict.fromkeys("{} x {}".format(*window.trace.grid) for window in self.windows)
        where = f" in {len(self.windows)} windows" if len(self.windows) > 1 else ""
        ratios = ", ".join(f"{ratio:.0%}" for ratio in self.keep_ratio())
        return f"<TokenView of {' and '.join(grids)} tokens{where}, computed by blocks {self._range()}: {ratios}>"

    def _range(self) -> str:
        first, *_, last = self.blocks if len(self.blocks) > 1 else self.blocks * 2
        return f"{first} to {last}"

    @property
    def blocks(self) -> list[int]:
        """Numbers of the L traced blocks."""
        return self.windows[0].trace.blocks

    def shares(self) -> np.ndarray:
        """Return (L, 4) fractions of the tokens in each state (``token_pruning.analysis.plot.STATES``), by block.

        Windows count by their number of tokens.
        """
        flat = np.concatenate([window.states.reshape(len(self.blocks), -1) for window in self.windows], axis=1)
        return np.stack([(flat == state).mean(axis=1) for state in range(len(plot.STATES))], axis=1)

    def keep_ratio(self) -> list[float]:
        """Return the fraction of the grid tokens that each of the L blocks computed."""
        return self.shares()[:, plot.USED].tolist()

    def mean_keep_ratio(self) -> float:
        """Return the mean over the pruned blocks, the ``keep_ratio`` of all result rows."""
        return mean_keep_ratio(self.keep_ratio(), self.pruned_blocks)

    def overlay(self, block: int) -> PILImage:
        """Draw the states of the tokens in one block; see ``token_pruning.analysis.plot.overlay``."""
        row = self.blocks.index(block)
        return self._paint(
            lambda image, window, patch: plot.overlay(
                image, window.states[row], patch, plot.token_groups(window.trace, block)
            )
        )

    def depth_map(self) -> PILImage:
        """Draw how many blocks computed each token: dark blue none, yellow all."""
        return self._paint(
            lambda image, window, patch: plot.depth_map(image, plot.token_depth(window.trace), len(self.blocks), patch)
        )

    def exits(self) -> dict[int, float] | None:
        """Return block -> fraction of the tokens that exit after it.

        None for traces in which tokens come back, are merged, or all stay.
        """
        states = {state for window in self.windows for state in np.unique(window.states)}
        if states != {plot.USED, plot.DROPPED}:
            return None
        flat = np.concatenate([window.trace.last_use().numpy().ravel() for window in self.windows])
        return {block: float((flat == block).mean()) for block in plot.exit_blocks(flat, self.blocks[-1])}

    def exit_map(self) -> PILImage:
        """Draw after which block each token exits, in the colours of ``plot.exit_colour``."""
        order = list(self.exits() or ())
        return self._paint(
            lambda image, window, patch: plot.exit_map(image, window.trace.last_use()[0].numpy(), order, patch)
        )

    def chart(self, size: tuple[int, int] = (600, 360)) -> PILImage:
        """Draw the states of the tokens as one bar per block."""
        return sheet.chart(self.shares(), self.blocks, size)

    def contact_sheet(self, found: PILImage | None = None, title: str = "") -> PILImage:
        """Draw one sheet with the result ``found`` (None: the input), depth map, exits, chart, and every block."""
        from PIL import Image

        ratios, exits = self.keep_ratio(), self.exits()
        view = self._paint(lambda image, window, patch: image)
        cells = [
            ("found", view if found is None else found),
            ("blocks that computed a token", sheet.depth_bar(self.depth_map(), len(self.blocks))),
        ]
        if exits:
            cells.append(("where tokens exit", self.exit_map()))
        height = max(240, round(600 * view.height / view.width))
        cells.append(("tokens by block", self.chart((600, min(height, 600)))))
        columns = 4 if exits or len(self.blocks) > 6 else 3
        while len(cells) % columns:
            cells.append(("", Image.new("RGB", view.size, sheet.PAPER)))
        cells += [
            (f"block {block}: {ratio:.1%} computed", self.overlay(block))
            for block, ratio in zip(self.blocks, ratios, strict=True)
        ]
        return sheet.contact_sheet(cells, self.legend(), columns, title)

    def legend(self) -> list[tuple[str, tuple[int, int, int] | None]]:
        """Return words and colours for what the images of this trace show."""
        present = self.shares().any(axis=0)
        words = [
            f"{plot.STATES[plot.USED]} (on images: original pixels)",
            f"{plot.STATES[plot.MERGED]} (on images: one colour per group)",
            *plot.STATES[plot.LATER :],
        ]
        found = [(words[state], plot.COLOURS[state]) for state in range(len(words)) if present[state]]
        return found + self.exit_legend()

    def exit_legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Return words and colours of ``exit_map``; empty if there are no exits."""
        exits = self.exits() or {}
        return [
            (f"exits after block {block} ({share:.1%})", plot.exit_colour(number, len(exits)))
            for number, (block, share) in enumerate(exits.items())
        ]

    def to_dict(self) -> dict:
        """Return the numbers for JSON."""
        traces = [window.trace for window in self.windows]
        found = dict(
            blocks=self.blocks,
            keep_by_block=self.keep_ratio(),
            pruned_blocks=list(self.pruned_blocks),
            keep_ratio=self.mean_keep_ratio(),
            shares_by_block=dict(zip(plot.STATES, self.shares().T.tolist(), strict=True)),
            windows=[dict(y=w.y, x=w.x, grid=list(w.trace.grid), prefix=w.trace.prefix) for w in self.windows],
            patch=self.patch,
            input=list(self.image.shape[:2]),
        )
        if any(trace.left for trace in traces):
            found["left_for_mlp"] = {
                block: float(
                    np.mean([t.of_grid(t.left[block][0]).float().mean().item() for t in traces if block in t.left])
                )
                for block in sorted({b for t in traces for b in t.left})
            }
        return found | (dict(left_after=self.exits()) if self.exits() else {})

    def _paint(self, paint: Callable[[np.ndarray, Window, int], np.ndarray]) -> PILImage:
        """Enlarge the image if it is small, and paint every window on it."""
        from PIL import Image

        h, w = self.image.shape[:2]
        times = max(1, round(MIN_SIDE / max(h, w)))
        canvas = np.asarray(Image.fromarray(self.image).resize((w * times, h * times), Image.Resampling.BICUBIC))
        out = canvas.copy()
        for window in self.windows:
            y, x = window.y * times, window.x * times
            high, wide = (side * self.patch * times for side in window.trace.grid)
            area = canvas[y : y + high, x : x + wide]
            out[y : y + high, x : x + wide] = paint(area, window, self.patch * times)
        return Image.fromarray(out)
