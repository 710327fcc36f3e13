"""What the page is sent about an image: words, numbers, and images as data URLs."""

import base64
import io

from PIL import Image

from mmcv_custom.inference import Result, TokenView
from token_pruning.analysis import plot

WIDEST = 1024  # pixels of the longer side of what is sent
# How images show a state, where that is not its colour.
SHOWN = {plot.USED: " (as photographed)", plot.MERGED: " (one colour a group)"}


def about_result(result: Result, ms: float, gmacs: float) -> dict:
    """What a model found, and at what cost."""
    return dict(ms=ms, gmacs=gmacs, words=in_words(result), image=data_url(result.draw()))


def about_tokens(tokens: TokenView) -> dict:
    """What became of the tokens in each block, as numbers and images."""
    shares = tokens.shares()
    maps = {"depth": data_url(tokens.depth_map())}
    if tokens.exits():
        maps["exits"] = data_url(tokens.exit_map())
    return dict(
        keep=float(shares[:, plot.USED].mean()),
        maps=maps,
        blocks=[
            dict(block=block, shares=row, image=data_url(tokens.overlay(block)))
            for block, row in zip(tokens.blocks, shares.tolist(), strict=True)
        ],
        states=[
            dict(words=words + SHOWN.get(i, ""), colour=plot.COLOURS[i], used=bool(shares[:, i].any()))
            for i, words in enumerate(plot.STATES)
        ],
        exits=[dict(words=words, colour=colour) for words, colour in tokens.legend() if words.startswith("left after")],
    )


def in_words(result: Result) -> str:
    """What was found, for those who do not see the image."""
    if result.task == "detection":
        found = [f"{name} {score:.2f}" for name, score in zip(result.names, result.scores, strict=True)]
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        return f"{len(found)} found: {', '.join(found[:8])}{more}" if found else "nothing found with enough confidence"
    best = list(result.shares().items()) if result.task == "segmentation" else result.top()
    return ", ".join(f"{name} {share:.0%}" for name, share in best[:6])


def data_url(image: Image.Image) -> str:
    """A JPEG that an ``img`` element takes as its source."""
    image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
