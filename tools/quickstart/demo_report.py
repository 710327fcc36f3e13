"""The report of the quickstart demo: one HTML file with embedded images and a light and a dark theme."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmcv_custom import Predictor
from mmcv_custom.data.image_files import images_in
from mmcv_custom.files import write_file

if TYPE_CHECKING:
    from PIL.Image import Image

THRESHOLD = 0.4  # of the detections that are drawn

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Token pruning demo</title>
<style>
 :root {{ color-scheme: light dark; --line: #8885; --bar: #0072b2; }}
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
 .first {{ font-size: 1.25rem; }}
 table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
 th, td {{ padding: .3rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }}
 th:first-child, td:first-child {{ text-align: left; }}
 .bars {{ display: grid; grid-template-columns: 6rem 1fr 4rem; gap: .25rem .75rem; max-width: 560px; }}
 .bars div.bar {{ background: var(--bar); border-radius: 3px; }}
 .bars div.track {{ background: var(--line); border-radius: 3px; }}
 figure {{ margin: 1.5rem 0; }} img {{ max-width: 100%; image-rendering: auto; }}
 .pair {{ display: flex; flex-wrap: wrap; gap: 1rem; }} .pair figure {{ margin: 0; flex: 1 1 320px; }}
 figcaption, .small {{ font-size: .85rem; opacity: .8; }} code {{ font-size: .85em; overflow-wrap: anywhere; }}
</style>
<h1>Dense and pruned detector on digit scenes</h1>
<p class="first">{summary}</p>
{first}
<table><tr><th>model<th>box AP<th>box AP50<th>mask AP<th>kept in pruned blocks<th>GMACs<th>ms<th>backbone ms<th>times as
fast<th>quartiles</tr>
{rows}</table>
<p class="small">Kept in pruned blocks: the share of the tokens that a block computed, mean over the pruned blocks and
the timed images. GMACs: mean over the timed images; a multiply-add counts 1. ms: median per image, batch 1, with
post-processing. Times as fast: median of the ratios of neighbouring measurements, the models timed in turns.
{training}</p>
<h2>Kept tokens by block</h2>
<div class="bars">{bars}</div>
<h2>Tokens that the pruned detector skips</h2>
<p>Bright: the block computes this token. Blue: it skips the token, but a later block uses it again. Dark: neither this
block nor a later one uses it. Every token keeps its position in the feature map, so the neck gets the full map.</p>
{images}
<h2>How this was made</h2>
<p class="small"><code>{command}</code> at commit <code>{commit}</code>, {machine}; {versions}.</p>
</html>
"""


class Shown(NamedTuple):
    """One image as the report shows it: the detections of both models side by side, and the pruned model's tokens."""

    pair: str
    tokens: str


def summary(rows: Sequence[dict]) -> str:
    """Return the result in one sentence: how much faster, at what accuracy, on what machine."""
    dense, pruned = rows[:2]
    low, high = pruned["speedup_vs_dense_quartiles"]
    return (
        f"The pruned detector is {pruned['speedup_vs_dense']:.2f} times as fast as the dense one (quartiles "
        f"{low:.2f} to {high:.2f}; whole network, batch 1, {machine(pruned)}), with box AP {pruned['box_AP']:.3f} "
        f"against {dense['box_AP']:.3f} and mask AP {pruned['mask_AP']:.3f} against {dense['mask_AP']:.3f}."
    )


def machine(row: dict) -> str:
    """Return the machine of a row in words."""
    found = row["machine"]
    return found["gpu"][0] if found["gpu"] else f"{found['cores']} cores of {found['cpu']}"


def write_report(path: Path, rows: Sequence[dict], models: Sequence, folder: Path, number: int = 4) -> None:
    """Write the report to ``path``, whole or not at all.

    Args:
        rows: result rows of ``dense``, ``pruned`` and, where it was trained, ``dense_ftune``.
        models: (name, config, checkpoint) of each.
        folder: test images, of which ``number`` are shown.
    """
    pruned = rows[1]
    shown = show(models[:2], folder, number)
    text = PAGE.format(
        summary=html.escape(summary(rows)),
        first=shown[0].pair,
        rows="\n".join(_table_row(r) for r in rows),
        training=html.escape(training(rows)),
        bars="".join(_bar(i, share) for i, share in enumerate(pruned["keep_by_block"])),
        images="\n".join([shown[0].tokens, *(image.pair + image.tokens for image in shown[1:])]),
        command=html.escape(pruned["command"]),
        commit=pruned["commit"],
        machine=html.escape(machine(pruned)),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in pruned["versions"].items())),
    )
    write_file(path, text)


def training(rows: Sequence[dict]) -> str:
    """Return what the pruned model was trained for and the dense one not, in a sentence."""
    steps = rows[0]["further_steps"]
    if len(rows) > 2:
        return f"dense_ftune: the dense model after as many further steps as the pruned one, {steps}."
    return (
        f"The pruned model was trained for {steps} steps from the dense one's weights; make demo "
        "ARGS=--fine-tune-dense trains the dense one for as many, too."
    )


def show(models: Sequence, folder: Path, number: int) -> list[Shown]:
    """Run the models on images spread over ``folder``."""
    files = images_in(folder, print)
    files = files[:: max(1, len(files) // number)][:number]
    predictors = {name: Predictor(config, checkpoint) for name, config, checkpoint in models}
    found = []
    for file in files:
        results = {name: predictor(file).above(THRESHOLD) for name, predictor in predictors.items()}
        drawn = {name: result.draw() for name, result in results.items()}
        pair = "".join(
            f"<figure>{_img(image)}<figcaption>{name}</figcaption></figure>" for name, image in drawn.items()
        )
        name, result = list(results.items())[-1]
        sheet = result.tokens.contact_sheet(drawn[name])
        found.append(Shown(f"<div class='pair'>{pair}</div>", f"<figure>{_img(sheet)}</figure>"))
    return found


def _table_row(r: dict) -> str:
    low, high = r["speedup_vs_dense_quartiles"]
    cells = [
        r["model"],
        f"{r['box_AP']:.3f}",
        f"{r['box_AP50']:.3f}",
        f"{r['mask_AP']:.3f}",
        f"{r['keep_ratio']:.0%}",
        f"{r['gmacs']:.2f}",
        f"{r['ms']:.0f}",
        f"{r['ms_backbone']:.0f}",
        *((f"{r['speedup_vs_dense']:.2f}", f"{low:.2f} to {high:.2f}") if r["pruned_blocks"] else ("", "")),
    ]
    return "<tr>" + "".join(f"<td>{c}" for c in cells) + "</tr>"


def _bar(block: int, share: float) -> str:
    bar = f"<div class='track'><div class='bar' style='width:{share:.1%}'>&nbsp;</div></div>"
    return f"<span>block {block}</span>{bar}<span>{share:.0%}</span>"


def _img(drawing: Image) -> str:
    buffer = io.BytesIO()
    drawing.convert("RGB").save(buffer, "JPEG", quality=88)
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
