"""Images that show what each block did with every token of an image.

All functions take the trace of one image (``PassTrace.of``). Shapes: L blocks, H x W grid of tokens, images are
(h, w, 3) uint8 RGB; a grid may cover more than its image (padding is cut off).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .trace import PassTrace

# Palette of Okabe and Ito, which colour-blind readers can distinguish.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))

# States of a token in a block.
USED, MERGED, LATER, DROPPED = range(4)
STATES = ("computed", "merged", "skipped, computed by a later block", "dropped")
# Colours of the states in charts and legends; on an image, computed tokens are the image itself.
COLOURS = ((230, 159, 0), (0, 158, 115), (86, 180, 233), (70, 70, 70))
STRENGTH = {LATER: 0.68, DROPPED: 0.82}  # opacity of the colour over the image
GROUP_STRENGTH = 0.55
SHOW_THROUGH = 0.2  # opacity of the image in a depth map


def colour(number: int) -> tuple[int, int, int]:
    """Return the RGB colour of class or group ``number``: the palette, then lighter and darker variants of it."""
    base, variant = np.array(PALETTE[number % len(PALETTE)], float), number // len(PALETTE) % 3
    red, green, blue = (base, 0.5 * base + 127, 0.55 * base)[variant]
    return int(red), int(green), int(blue)


def exit_colour(number: int, exits: int) -> tuple[int, int, int]:
    """Return the RGB colour of exit block ``number`` (0 to ``exits`` - 1).

    Up to seven exit blocks get colours of the palette, beginning with those that charts of states do not use; more get
    a scale from dark to bright.
    """
    if exits <= len(PALETTE):
        return PALETTE[-1 - number]
    from matplotlib import colormaps

    red, green, blue = colormaps["viridis"](number / (exits - 1))[:3]
    return int(255 * red), int(255 * green), int(255 * blue)


def token_states(trace: PassTrace) -> np.ndarray:
    """Return the state of each token in each block, (L, H, W) uint8.

    ``USED``: the block computed the token; ``MERGED``: another token represents it; ``LATER``: skipped, but computed by
    a later block; ``DROPPED``: dropped.
    """
    used = trace.masks()[0].numpy()
    # Whether any block after this one uses the token.
    later = np.logical_or.accumulate(used[::-1], axis=0)[::-1]
    later = np.concatenate([later[1:], np.zeros_like(used[:1])])
    found = np.where(used, USED, np.where(later, LATER, DROPPED)).astype(np.uint8)
    for row, block in enumerate(trace.blocks):
        if block in trace.assignment:
            assignment, runs = trace.assignment[block][0].numpy(), trace.used[block][0].numpy()
            represented = trace.of_grid(runs[assignment]).reshape(trace.grid)
            found[row][represented & ~used[row]] = MERGED
    return found


def token_groups(trace: PassTrace, block: int) -> np.ndarray | None:
    """Return the group of each token at the start of ``block``, (H, W) int64.

    A group's number is the position of the token that represents it; -1 for tokens that are not merged, or dropped.
    None if no tokens are merged.
    """
    if block not in trace.assignment:
        return None
    assignment, runs = trace.assignment[block][0].numpy(), trace.used[block][0].numpy()
    members = np.bincount(assignment, minlength=len(assignment))
    groups = trace.of_grid(np.where((members[assignment] > 1) & runs[assignment], assignment, -1)).reshape(trace.grid)
    return groups if (groups >= 0).any() else None


def token_depth(trace: PassTrace) -> np.ndarray:
    """Return how many of the L blocks computed each token, (H, W) int."""
    return trace.masks()[0].numpy().sum(axis=0)


def overlay(image: np.ndarray, states: np.ndarray, patch: int = 16, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the image with the token states of one block painted over it, (h, w, 3) uint8.

    Computed tokens are left unchanged, tokens that a later block computes are blue, dropped tokens dark, and each group
    of merged tokens has one colour.

    Args:
        image: (h, w, 3) uint8.
        states: (H, W), one row of ``token_states``.
        patch: side of a token in pixels.
        groups: (H, W), from ``token_groups``.
    """
    out, states = image.astype(np.float32), _to_pixels(states, image, patch)
    if groups is not None:
        inner = _to_pixels(groups, image, patch)
        where, strength = inner >= 0, GROUP_STRENGTH
        # Colours depend on the position, so that a group has one colour in all blocks; neighbours mostly differ.
        numbers = inner[where] + 2 * (inner[where] // groups.shape[1])
        out[where] = (1 - strength) * out[where] + strength * np.array(PALETTE, np.float32)[numbers % len(PALETTE)]
    for state, strength in STRENGTH.items():
        where = states == state
        out[where] = (1 - strength) * out[where] + strength * np.array(COLOURS[state], np.float32)
    borders = _borders(np.where(states == MERGED, USED, states), patch)
    if groups is not None:
        borders |= _borders(inner, patch)
    out[borders] = 0.35 * out[borders] + 0.65 * 255
    return out.round().astype(np.uint8)


def depth_map(image: np.ndarray, depth: np.ndarray, blocks: int, patch: int = 16) -> np.ndarray:
    """Return a colour map of how many of the ``blocks`` computed each token, (h, w, 3) uint8.

    From dark blue (none) to yellow (all); the image shows through faintly. ``depth``: (H, W), from ``token_depth``.
    """
    from matplotlib import colormaps

    colours = 255 * colormaps["cividis"](_to_pixels(depth / blocks, image, patch))[..., :3]
    grey = image.mean(axis=2, keepdims=True)
    return ((1 - SHOW_THROUGH) * colours + SHOW_THROUGH * grey).round().astype(np.uint8)


def exit_map(image: np.ndarray, exits: np.ndarray, order: Sequence[int], patch: int = 16) -> np.ndarray:
    """Return the image with exited tokens in the colour of their exit block, (h, w, 3) uint8.

    Args:
        image: (h, w, 3) uint8.
        exits: (H, W), the block after which each token exited.
        order: the exit blocks; tokens of other blocks are left unchanged.
        patch: side of a token in pixels.
    """
    pixels, out = _to_pixels(exits, image, patch), image.astype(np.float32)
    for number, block in enumerate(order):
        where = pixels == block
        out[where] = 0.35 * out[where] + 0.65 * np.array(exit_colour(number, len(order)), np.float32)
    borders = _borders(pixels, patch)
    out[borders] = 0.35 * out[borders] + 0.65 * 255
    return out.round().astype(np.uint8)


def exit_blocks(exits: np.ndarray, last: int) -> list[int]:
    """Return the blocks after which tokens exited, without the ``last`` block."""
    return [int(block) for block in np.unique(exits) if block != last]


def _to_pixels(tokens: np.ndarray, image: np.ndarray, patch: int) -> np.ndarray:
    return tokens.repeat(patch, 0).repeat(patch, 1)[: image.shape[0], : image.shape[1]]


def _borders(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Return lines between pixels of different value, (h, w) bool, with a width that depends on ``patch``."""
    found = np.zeros(pixels.shape, bool)
    for shift in range(1, 2 + patch // 32):
        found[:, :-shift] |= pixels[:, :-shift] != pixels[:, shift:]
        found[:-shift] |= pixels[:-shift] != pixels[shift:]
    return found
