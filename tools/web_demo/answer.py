"""The parts of a response about an image: words, numbers, and images as data URLs."""

import base64
import io

from PIL import Image

from mmcv_custom.inference import Result, TokenView
from token_pruning.analysis import plot

MAX_SIDE = 1024  # pixels of the longer side of the images in a response
# How overlays show a state whose colour is not its legend colour.
OVERLAY_HINTS = {plot.USED: " (original pixels)", plot.MERGED: " (one colour per group)"}


def about_result(result: Result, ms: float, gmacs: float) -> dict:
    """Return what a model found, and at what cost."""
    return dict(ms=ms, gmacs=gmacs, words=result.summary(), image=data_url(result.draw()))


def about_tokens(tokens: TokenView) -> dict:
    """Return the states of the tokens in each block, as numbers and images."""
    shares = tokens.shares()
    maps = {"depth": data_url(tokens.depth_map())}
    if tokens.exits():
        maps["exits"] = data_url(tokens.exit_map())
    return dict(
        keep=tokens.mean_keep_ratio(),
        maps=maps,
        blocks=[
            dict(block=block, shares=row, image=data_url(tokens.overlay(block)))
            for block, row in zip(tokens.blocks, shares.tolist(), strict=True)
        ],
        states=[
            dict(words=words + OVERLAY_HINTS.get(i, ""), colour=plot.COLOURS[i], used=bool(shares[:, i].any()))
            for i, words in enumerate(plot.STATES)
        ],
        exits=[dict(words=words, colour=colour) for words, colour in tokens.exit_legend()],
    )


def data_url(image: Image.Image) -> str:
    """Return a JPEG as the source of an ``img`` element."""
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
