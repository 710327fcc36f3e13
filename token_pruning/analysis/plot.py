"""Images of a trace: what became of every token of an image in each block.

Everything here takes the trace of one image (``PassTrace.of``). Shapes: L blocks, H x W grid of tokens, images are
(h, w, 3) uint8 RGB; a grid may cover more than its image (padding is cut off).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .trace import PassTrace

# Okabe and Ito's palette: told apart by colour-blind readers, too.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))

# What becomes of a token in a block.
USED, MERGED, LATER, GONE = range(4)
STATES = ("computed", "in a group with others", "skipped, used by a later block", "skipped for good")
# Colours of the states in charts and legends; on an image, computed tokens are the image itself.
COLOURS = ((230, 159, 0), (0, 158, 115), (86, 180, 233), (70, 70, 70))
STRENGTH = {LATER: 0.68, GONE: 0.82}  # of the colour over the image
GROUP_STRENGTH = 0.55
SHOW_THROUGH = 0.2  # of the image in a depth map


def colour(number: int) -> tuple[int, int, int]:
    """The RGB of class or group ``number``: the palette, then lighter and darker turns of it."""
    base, turn = np.array(PALETTE[number % len(PALETTE)], float), number // len(PALETTE) % 3
    mixed = (base, 0.5 * base + 127, 0.55 * base)[turn]
    return tuple(int(value) for value in mixed)


def exit_colour(number: int, exits: int) -> tuple[int, int, int]:
    """The RGB of the ``number``th of ``exits`` blocks after which tokens left: up to seven differ as classes do (the
    first ones are in no chart of states), more go from dark to bright."""
    if exits <= len(PALETTE):
        return PALETTE[-1 - number]
    from matplotlib import colormaps

    return tuple(int(255 * part) for part in colormaps["viridis"](number / (exits - 1))[:3])


def token_states(trace: PassTrace) -> np.ndarray:
    """(L, H, W) uint8 of ``USED`` (the block computed the token), ``MERGED`` (another token stands for it there),
    ``LATER`` (skipped, but a later block computes it) and ``GONE`` (neither)."""
    used = trace.masks()[0].numpy()
    # Whether any block after this one uses the token.
    later = np.logical_or.accumulate(used[::-1], axis=0)[::-1]
    later = np.concatenate([later[1:], np.zeros_like(used[:1])])
    found = np.where(used, USED, np.where(later, LATER, GONE)).astype(np.uint8)
    for row, block in enumerate(trace.blocks):
        if block in trace.assignment:
            assignment, runs = trace.assignment[block][0].numpy(), trace.used[block][0].numpy()
            stands_in = runs[assignment][trace.prefix :].reshape(trace.grid)
            found[row][stands_in & ~used[row]] = MERGED
    return found


def token_groups(trace: PassTrace, block: int) -> np.ndarray | None:
    """(H, W) int64, the number of each token's group when ``block`` begins, that is the position of the token that
    stands for it; -1 for tokens alone or gone. None where nothing is merged."""
    if block not in trace.assignment:
        return None
    assignment, runs = trace.assignment[block][0].numpy(), trace.used[block][0].numpy()
    members = np.bincount(assignment, minlength=len(assignment))
    groups = np.where((members[assignment] > 1) & runs[assignment], assignment, -1)[trace.prefix :].reshape(trace.grid)
    return groups if (groups >= 0).any() else None


def token_depth(trace: PassTrace) -> np.ndarray:
    """(H, W) int, how many of the L blocks computed each token."""
    return trace.masks()[0].numpy().sum(axis=0)


def overlay(image: np.ndarray, states: np.ndarray, patch: int = 16, groups: np.ndarray | None = None) -> np.ndarray:
    """The image with what one block did: computed tokens as they are, blue those that a later block uses, dark those
    that none does, and groups of merged tokens each in one colour.

    Args:
        image: (h, w, 3) uint8.
        states: (H, W) of ``token_states``.
        patch: side of a token in pixels.
        groups: (H, W) of ``token_groups``.

    Returns:
        (h, w, 3) uint8.
    """
    out, states = image.astype(np.float32), _to_pixels(states, image, patch)
    if groups is not None:
        inner = _to_pixels(groups, image, patch)
        where, strength = inner >= 0, GROUP_STRENGTH
        # By its place, so a group has the same colour in all blocks; neighbours mostly differ, and lines part them.
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
    """(h, w, 3) uint8: how many of the ``blocks`` computed each token (H, W), dark blue (none) to yellow (all); the
    image shows through faintly."""
    from matplotlib import colormaps

    colours = 255 * colormaps["cividis"](_to_pixels(depth / blocks, image, patch))[..., :3]
    grey = image.mean(axis=2, keepdims=True)
    return ((1 - SHOW_THROUGH) * colours + SHOW_THROUGH * grey).round().astype(np.uint8)


def exit_map(image: np.ndarray, exits: np.ndarray, order: Sequence[int], patch: int = 16) -> np.ndarray:
    """(h, w, 3) uint8: after which block each token (H, W) left, in one colour for each block of ``order``; all others
    are the image itself."""
    pixels, out = _to_pixels(exits, image, patch), image.astype(np.float32)
    for number, block in enumerate(order):
        where = pixels == block
        out[where] = 0.35 * out[where] + 0.65 * np.array(exit_colour(number, len(order)), np.float32)
    borders = _borders(pixels, patch)
    out[borders] = 0.35 * out[borders] + 0.65 * 255
    return out.round().astype(np.uint8)


def exit_blocks(exits: np.ndarray, last: int) -> list[int]:
    """The blocks after which tokens left, without the ``last`` one."""
    return [int(block) for block in np.unique(exits) if block != last]


def _to_pixels(tokens: np.ndarray, image: np.ndarray, patch: int) -> np.ndarray:
    return tokens.repeat(patch, 0).repeat(patch, 1)[: image.shape[0], : image.shape[1]]


def _borders(pixels: np.ndarray, patch: int) -> np.ndarray:
    """(h, w) bool: lines between pixels of different value, as wide as a ``patch`` bears."""
    found = np.zeros(pixels.shape, bool)
    for shift in range(1, 2 + patch // 32):
        found[:, :-shift] |= pixels[:, :-shift] != pixels[:, shift:]
        found[:-shift] |= pixels[:-shift] != pixels[shift:]
    return found
