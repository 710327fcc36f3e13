"""Drawings of predictions, readable at any image size; all functions return PIL images.

Shapes: images (h, w, 3) uint8 RGB, masks (n, h, w) bool, boxes (n, 4) as x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from token_pruning.analysis.plot import colour
from token_pruning.analysis.sheet import FAINT, INK, PAPER, font, shorten

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from PIL.ImageDraw import ImageDraw as Pen

Colour = tuple[int, int, int]
MIN_SIDE = 640  # pixels: images whose longer side is shorter are enlarged to about this
TINT = 0.55  # opacity of the colour of a region
NAMED = 0.01  # least fraction of the pixels of a class whose name is written on its region


def detections(
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    words: Sequence[str],
    masks: np.ndarray | None,
    palette: Sequence | None = None,
) -> PILImage:
    """Draw masks, boxes and words; the object of the best score last, over the others."""
    from PIL import Image, ImageDraw

    times = _times(image)
    pixels = _enlarged(image, times)
    size = _text_size(pixels)
    out = np.asarray(pixels).astype(np.float32)
    order = np.argsort(scores, kind="stable").tolist()
    for i in order if masks is not None else ():
        if not masks[i].any():
            continue
        (y1, y2), (x1, x2) = (np.flatnonzero(masks[i].any(axis))[[0, -1]] for axis in (1, 0))
        mask = masks[i][y1 : y2 + 1, x1 : x2 + 1].repeat(times, 0).repeat(times, 1)
        part = out[y1 * times : (y2 + 1) * times, x1 * times : (x2 + 1) * times]
        inside = _shrunk(mask, max(1, size // 10))
        paint = np.array(_colour(labels[i], palette), np.float32)
        part[inside] = 0.55 * part[inside] + 0.45 * paint
        part[mask & ~inside] = paint
    pixels = Image.fromarray(out.round().astype(np.uint8))
    pen = ImageDraw.Draw(pixels)
    for i in order:
        pen.rectangle((boxes[i] * times).tolist(), outline=_colour(labels[i], palette), width=max(1, size // 8))
    plates = _Plates(pen, pixels.size, size)
    for i in reversed(order):  # the best objects choose the position of their label first
        x1, y1, *_ = (boxes[i] * times).tolist()
        text = shorten(words[i], pixels.width // 2, size)
        plates.write(x1, y1 - size - 4, text, _colour(labels[i], palette))
    return pixels


def segmentation(
    image: np.ndarray,
    labels: np.ndarray,
    name: Callable[[int], str],
    palette: Sequence | None = None,
    legend: bool = True,
) -> PILImage:
    """Tint every pixel by its class, draw lines between classes, and write names on the larger regions.

    Args:
        labels: (h, w) class of every pixel.
        name: from a class to its name.
        legend: add a legend below the image; its height depends on the classes present.
    """
    from PIL import ImageDraw

    times = _times(image)
    found, counts = np.unique(labels, return_counts=True)
    paint = np.zeros((int(found.max()) + 1, 3), np.float32)
    paint[found] = [_colour(label, palette) for label in found]
    pixels = _tinted(image, labels, paint, np.full(len(paint), TINT), times)
    size = _text_size(pixels)
    plates = _Plates(ImageDraw.Draw(pixels), pixels.size, size)
    order = np.argsort(-counts, kind="stable")
    for i in order:
        if counts[i] >= NAMED * labels.size:
            plates.write_inside(labels == found[i], times, name(int(found[i])), _colour(found[i], palette))
    if not legend:
        return pixels
    entries = [(f"{name(int(found[i]))} {counts[i] / labels.size:.0%}", _colour(found[i], palette)) for i in order]
    return _with_legend(pixels, entries, size)


def segments(
    image: np.ndarray, masks: np.ndarray, labels: np.ndarray, words: Sequence[str], palette: Sequence | None = None
) -> PILImage:
    """Tint segments, which share no pixel, by their class, draw lines around them, and write words on each."""
    from PIL import ImageDraw

    times = _times(image)
    colours = [_colour(label, palette) for label in labels]
    regions = np.zeros(image.shape[:2], np.int64)  # 0: no segment
    for i, mask in enumerate(masks, 1):
        regions[mask] = i
    opacity = np.full(len(colours) + 1, TINT)
    opacity[0] = 0
    pixels = _tinted(image, regions, np.array([(0, 0, 0), *colours], np.float32), opacity, times)
    plates = _Plates(ImageDraw.Draw(pixels), pixels.size, _text_size(pixels))
    for mask, text, fill in sorted(zip(masks, words, colours, strict=True), key=lambda one: one[0].sum()):
        plates.write_inside(mask, times, text, fill)  # the smaller a segment, the fewer places its words have
    return pixels


def classification(image: np.ndarray, best: Sequence[tuple[str, float]]) -> PILImage:
    """Draw the image, and below it a bar for each of the ``best`` classes (name, score)."""
    from PIL import Image, ImageDraw

    times = max(1, round(320 / max(image.shape[:2])))
    pixels = _enlarged(image, times)
    size, width = max(13, _text_size(pixels)), max(pixels.width, 240)
    line = 2 * size + 4
    out = Image.new("RGB", (width, pixels.height + line * len(best) + size), PAPER)
    out.paste(pixels, ((width - pixels.width) // 2, 0))
    pen, margin = ImageDraw.Draw(out), size // 2
    for i, (name, score) in enumerate(best):
        y = pixels.height + margin + i * line
        pen.text((margin, y), shorten(name, width - 5 * size, size), INK, font(size))
        pen.text((width - margin, y), f"{score:.1%}", INK, font(size), anchor="ra")
        top, full = y + size + 5, width - 2 * margin
        pen.rectangle([margin, top, margin + full, top + size // 2], fill=FAINT)
        pen.rectangle([margin, top, margin + full * score, top + size // 2], fill=colour(4 if i == 0 else 1))
    return out


def _times(image: np.ndarray) -> int:
    return max(1, round(MIN_SIDE / max(image.shape[:2])))


def _enlarged(image: np.ndarray, times: int) -> PILImage:
    from PIL import Image

    h, w = image.shape[:2]
    return Image.fromarray(image).resize((w * times, h * times), Image.Resampling.BICUBIC)


def _tinted(image: np.ndarray, regions: np.ndarray, paint: np.ndarray, opacity: np.ndarray, times: int) -> PILImage:
    """Return the enlarged image with its regions in their paint, and white lines between them.

    Args:
        regions: (h, w) number of the region of every pixel.
        paint: (R, 3), opacity: (R,) of each region.
        times: how much larger.
    """
    from PIL import Image

    large = regions.repeat(times, 0).repeat(times, 1)
    share = opacity[large][..., None]
    out = (1 - share) * np.asarray(_enlarged(image, times)) + share * paint[large]
    lines = np.zeros(large.shape, bool)
    lines[:, 1:] |= large[:, 1:] != large[:, :-1]
    lines[1:] |= large[1:] != large[:-1]
    out[lines] = 255
    return Image.fromarray(out.round().astype(np.uint8))


def _text_size(pixels: PILImage) -> int:
    return int(np.clip(min(pixels.size) / 28, 12, 40))


def _colour(label: int, palette: Sequence | None) -> Colour:
    return tuple(palette[int(label) % len(palette)]) if palette is not None and len(palette) else colour(int(label))


def _shrunk(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Erode ``mask`` (h, w) by ``pixels``."""
    padded = np.pad(mask, pixels)
    h, w = mask.shape
    inside = mask.copy()
    for shift in range(2 * pixels + 1):
        inside &= padded[shift : shift + h, pixels : pixels + w] & padded[pixels : pixels + h, shift : shift + w]
    return inside


def _middle(mask: np.ndarray) -> tuple[float, float]:
    """Return (y, x) of a pixel deep inside the widest part of a region."""
    step = max(1, max(mask.shape) // 96)
    core = mask[::step, ::step]
    core = core if core.any() else mask
    step = step if core is not mask else 1
    while True:
        smaller = _shrunk(core, 1)
        if not smaller.any():
            y, x = np.argwhere(core)[len(np.argwhere(core)) // 2]
            return y * step, x * step
        core = smaller


class _Plates:
    """Writes names on coloured plates that stay inside the image and do not cover each other."""

    def __init__(self, pen: Pen, within: tuple[int, int], size: int) -> None:
        self.pen, self.within, self.size = pen, within, size
        self.taken: list[tuple[float, float, float, float]] = []

    def write(self, x: float, y: float, text: str, fill: Colour) -> None:
        """Write ``text`` near (x, y), moved down where other plates are."""
        width, height = font(self.size).getlength(text) + 6, self.size + 4
        x, y = max(0, min(x, self.within[0] - width)), max(0, min(y, self.within[1] - height))
        for _ in range(8):
            hit = next(
                (t for t in self.taken if x < t[2] and t[0] < x + width and y < t[3] and t[1] < y + height), None
            )
            if hit is None or hit[3] + height > self.within[1]:
                break
            y = hit[3]
        self.taken.append((x, y, x + width, y + height))
        self.pen.rectangle([x, y, x + width, y + height], fill=fill)
        bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 110
        self.pen.text((x + 3, y + 1), text, INK if bright else PAPER, font(self.size))

    def write_inside(self, mask: np.ndarray, times: int, text: str, fill: Colour) -> None:
        """Write ``text`` in the widest part of a region of the image, which is drawn ``times`` as large."""
        y, x = (times * at for at in _middle(mask))
        text = shorten(text, self.within[0] // 3, self.size)
        self.write(x - font(self.size).getlength(text) / 2, y - self.size / 2, text, fill)


def _with_legend(pixels: PILImage, entries: Sequence[tuple[str, Colour]], size: int) -> PILImage:
    """Add a legend of colour swatches and words below the image."""
    from PIL import Image, ImageDraw

    lines, x = [[]], 0.0
    for text, fill in entries:
        needed = font(size).getlength(text) + 2.6 * size
        if lines[-1] and x + needed > pixels.width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, text, fill))
        x += needed
    line = int(1.5 * size)
    out = Image.new("RGB", (pixels.width, pixels.height + line * len(lines) + size // 2), PAPER)
    out.paste(pixels)
    pen = ImageDraw.Draw(out)
    for row, entries in enumerate(lines):
        y = pixels.height + size // 3 + row * line
        for x, text, fill in entries:
            pen.rectangle([x + 3, y + 2, x + 3 + size, y + 2 + size], fill=fill, outline=INK)
            pen.text((x + 1.5 * size, y), text, INK, font(size))
    return out
