"""Checks of one segmentation of a COCO-format file: polygons or a run-length encoding (RLE)."""

from __future__ import annotations

from collections.abc import Sequence

from ..coco_file import is_number

FAR = 2**20  # px; pycocotools needs memory for each pixel of an edge, also outside of the image


def segmentation_fault(segmentation: object, size: Sequence[int] | None) -> str | None:
    """Return what is wrong with a segmentation, or None; ``size`` is (width, height) of its image, if known."""
    if not segmentation:
        return "empty or missing"
    if isinstance(segmentation, list):
        return _polygon_fault(segmentation)
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, size)
    return f"a JSON {type(segmentation).__name__}"


def _polygon_fault(polygons):
    for polygon in polygons:
        numbers = isinstance(polygon, list) and {type(value) for value in polygon} <= {int, float}
        if not numbers or not is_number(sum(polygon)):  # one test for all of them: files have millions
            return "a polygon that is not a list of numbers [x, y, x, y, ...]"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers"
        farthest = max(max(polygon), -min(polygon))
        if farthest > FAR:
            return f"a polygon with a corner at {farthest:g} px"
        if max(polygon) <= 1:
            return "a polygon between 0 and 1, which is not in px"
    return None


def _rle_fault(rle, size):
    sides, counts = rle.get("size"), rle.get("counts")
    if not isinstance(sides, list) or len(sides) != 2 or not all(map(is_number, sides)):
        return "an RLE without a size [height, width]"
    if size is not None and sides != [size[1], size[0]]:
        return f"an RLE of {sides[0]} x {sides[1]} (height x width) in an image of {size[1]} x {size[0]}"
    # Not decoded by pycocotools, which returns uninitialized memory where runs are missing.
    runs = counts if isinstance(counts, list) else rle_runs(counts) if isinstance(counts, str) else None
    if runs is None or not all(is_number(run) and run >= 0 for run in runs):
        return "an RLE whose counts cannot be read"
    if sum(runs) != sides[0] * sides[1]:
        return f"an RLE of {sum(runs)} px for {sides[0]} x {sides[1]}"
    return None if sum(runs[1::2]) else "an RLE without a pixel"


def rle_runs(text: str) -> list[int] | None:
    """Return the run lengths in a compressed COCO RLE string, or None if it is not valid.

    Each number is written with 5 bits per character, lowest bits first: character = 48 + bits, + 32 if more follow; the
    last one gives the sign. From the fourth number on, it is the difference to the number two before.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs if shift == 0 else None
