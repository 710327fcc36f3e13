"""Pictures of a trace: which tokens of an image each block used.

Shapes: L blocks, H x W grid of tokens, images are (h, w, 3) uint8 RGB.
"""

from __future__ import annotations

import numpy as np

# Okabe and Ito's palette: told apart by colour-blind readers, too.
LATER = (86, 180, 233)  # skipped here, used again by a later block
NEVER = (40, 40, 40)  # skipped here and by all later blocks


def overlay(image: np.ndarray, masks: np.ndarray, block: int, patch: int = 16) -> np.ndarray:
    """The picture with the tokens that one block skipped painted over.

    Args:
        image: (h, w, 3) uint8; may be smaller than the grid covers (padding is cut off).
        masks: (L, H, W) bool, use of the tokens by all blocks of one image.
        block: index into the L blocks.
        patch: side of a token in pixels.

    Returns:
        (h, w, 3) uint8: blue where a later block uses the token, dark where none does.
    """
    later = masks[block + 1:].any(axis=0)
    skipped = _to_pixels(~masks[block] & later, image, patch), _to_pixels(~masks[block] & ~later, image, patch)
    out = image.astype(np.float32)
    for where, colour, strength in zip(skipped, (LATER, NEVER), (0.65, 0.8), strict=True):
        out[where] = (1 - strength) * out[where] + strength * np.array(colour, np.float32)
    return out.round().astype(np.uint8)


def depth_map(image: np.ndarray, masks: np.ndarray, patch: int = 16) -> np.ndarray:
    """(h, w, 3) uint8: how many of the L blocks used each token, dark (none) to yellow (all)."""
    from matplotlib import colormaps

    share = masks.mean(axis=0)
    pixels = np.kron(share, np.ones((patch, patch)))[:image.shape[0], :image.shape[1]]
    return (colormaps["cividis"](pixels)[..., :3] * 255).round().astype(np.uint8)


def contact_sheet(image: np.ndarray, masks: np.ndarray, names: list[str], patch: int = 16,
                  columns: int = 6) -> np.ndarray:
    """One sheet of overlays, one cell per block with its name and kept fraction above, and the depth map at the end.

    Args:
        image, masks, patch: as in ``overlay``.
        names: L titles.
    """
    from PIL import Image, ImageDraw

    cells = [(f"{name}: {masks[i].mean():.0%}", overlay(image, masks, i, patch)) for i, name in enumerate(names)]
    cells.append(("use by depth", depth_map(image, masks, patch)))
    columns = min(columns, len(cells))
    rows, title, gap = -(-len(cells) // columns), 18, 4
    height, width = image.shape[:2]
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + title + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (text, cell) in enumerate(cells):
        x, y = i % columns * (width + gap), i // columns * (height + title + gap)
        draw.text((x + 2, y + 3), text, fill="black", font_size=12)
        sheet.paste(Image.fromarray(cell), (x, y + title))
    return np.asarray(sheet)


def _to_pixels(tokens: np.ndarray, image: np.ndarray, patch: int) -> np.ndarray:
    return np.kron(tokens, np.ones((patch, patch), bool))[:image.shape[0], :image.shape[1]]
