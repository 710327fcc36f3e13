"""Charts, scales and contact sheets for the images of a trace.

Images are PIL images of any size. Shapes: L blocks.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .plot import COLOURS, STATES

Image = Any  # a PIL image: the core must not require PIL
INK, PAPER, FAINT = (25, 25, 25), (255, 255, 255), (205, 205, 205)
CELL = 288  # width of a cell in pixels
GAP, TITLE, TEXT = 12, 24, 15


@lru_cache
def font(size: int) -> Any:
    """Return DejaVu Sans, which matplotlib ships and which covers the letters of most languages."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def chart(shares: np.ndarray, blocks: Sequence[int], size: tuple[int, int] = (480, 300)) -> Image:
    """Draw one stacked bar per block with the fraction of tokens in each state.

    The percentage of computed tokens is printed on each bar.

    Args:
        shares: (L, 4), the fraction of tokens in each state.
        blocks: L block numbers.
        size: (width, height) in pixels.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="constrained")
    axes, bottom = figure.subplots(), np.zeros(len(blocks))
    for state, name in enumerate(STATES):
        if shares[:, state].any():
            axes.bar(
                range(len(blocks)),
                100 * shares[:, state],
                bottom=bottom,
                width=0.8,
                label=name,
                color=np.array(COLOURS[state]) / 255,
            )
            bottom = bottom + 100 * shares[:, state]
    size_of_text = 9 if len(blocks) <= 12 else 6
    for x, share in enumerate(shares[:, 0]):
        axes.text(
            x,
            100 * share - 2 if share > 0.15 else 2,
            f"{100 * share:.0f}",
            ha="center",
            fontsize=size_of_text,
            va="top" if share > 0.15 else "bottom",
            color="black" if share > 0.15 else "white",
        )
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks], fontsize=size_of_text)
    axes.set(xlabel="block", ylabel="% of tokens", ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")


def depth_bar(image: Image, blocks: int) -> Image:
    """Add the colour scale below a depth map."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw

    width, height = image.size
    text = max(12, width // 22)
    out = Image.new("RGB", (width, height + 2 * text + 8), PAPER)
    out.paste(image)
    steps = np.linspace(0, 1, blocks + 1).repeat(-(-width // (blocks + 1)))[:width]
    ramp = (colormaps["cividis"](steps)[None, :, :3] * 255).astype(np.uint8).repeat(text - 4, 0)
    out.paste(Image.fromarray(ramp), (0, height + 4))
    draw = ImageDraw.Draw(out)
    draw.text((0, height + text + 3), "0 blocks", INK, font(text - 2))
    draw.text((width, height + text + 3), f"all {blocks}", INK, font(text - 2), anchor="ra")
    return out


def contact_sheet(
    cells: Sequence[tuple[str, Image]],
    legend: Sequence[tuple[str, tuple[int, int, int] | None]],
    columns: int = 4,
    title: str = "",
) -> Image:
    """Arrange images of one width with their titles on a white sheet, with a legend at the bottom.

    Args:
        cells: titles and images.
        legend: texts and their colours; None draws no colour box.
        columns: images per row.
        title: heading of the sheet.
    """
    from PIL import Image, ImageDraw

    shown = [(text, _fitted(image)) for text, image in cells]
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    width = GAP + min(columns, len(shown)) * (CELL + GAP)
    lines = _legend_lines(legend, width)
    top = 2 * TITLE if title else GAP
    height = top + sum(TITLE + max(p.height for _, p in row) + GAP for row in rows) + len(lines) * (TEXT + 9) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, y = ImageDraw.Draw(sheet), top
    draw.text((GAP, GAP), title, INK, font(TEXT + 3))
    for row in rows:
        for column, (text, image) in enumerate(row):
            x = GAP + column * (CELL + GAP)
            draw.text((x, y), shorten(text, CELL, TEXT), INK, font(TEXT))
            sheet.paste(image, (x, y + TITLE))
        y += TITLE + max(image.height for _, image in row) + GAP
    for line in lines:
        x = GAP
        for words, swatch in line:
            if swatch is not None:
                draw.rectangle([x, y + 2, x + TEXT, y + 2 + TEXT], fill=swatch, outline=INK)
                x += TEXT + 6
            draw.text((x, y), words, INK, font(TEXT))
            x += int(font(TEXT).getlength(words)) + 2 * GAP
        y += TEXT + 9
    return sheet


def shorten(text: str, width: int, size: int) -> str:
    """Shorten ``text`` to fit into ``width`` pixels at font size ``size``."""
    letters = font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _fitted(image: Image) -> Image:
    from PIL import Image

    height = max(1, round(image.height * CELL / image.width))
    return image.resize((CELL, height), Image.Resampling.LANCZOS)


def _legend_lines(legend: Sequence[tuple[str, tuple | None]], width: int) -> list[list[tuple]]:
    lines: list[list[tuple]] = [[]]
    x = GAP
    for words, swatch in legend:
        needed = font(TEXT).getlength(words) + 2 * GAP + (TEXT + 6) * (swatch is not None)
        if lines[-1] and x + needed > width:
            lines.append([])
            x = GAP
        lines[-1].append((words, swatch))
        x += needed
    return lines
