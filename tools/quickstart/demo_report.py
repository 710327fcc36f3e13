"""The report of the quickstart demo: one HTML file with embedded images and a light and a dark theme."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import nn

from mmcv_custom.files import write_file
from mmcv_custom.inference import TokenView, Window, visualize
from token_pruning import Trace

THRESHOLD = 0.4  # of the detections that are drawn

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Token pruning demo</title>
<style>
 :root {{ color-scheme: light dark; --line: #8885; --bar: #0072b2; }}
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
 table {{ border-collapse: collapse; margin: 1rem 0; }}
 th, td {{ padding: .3rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }}
 th:first-child, td:first-child {{ text-align: left; }}
 .bars {{ display: grid; grid-template-columns: 6rem 1fr 4rem; gap: .25rem .75rem; max-width: 560px; }}
 .bars div.bar {{ background: var(--bar); border-radius: 3px; }}
 .bars div.track {{ background: var(--line); border-radius: 3px; }}
 figure {{ margin: 1.5rem 0; }} img {{ max-width: 100%; image-rendering: auto; }}
 .pair {{ display: flex; flex-wrap: wrap; gap: 1rem; }} .pair figure {{ margin: 0; }}
 figcaption, .small {{ font-size: .85rem; opacity: .8; }} code {{ font-size: .85em; overflow-wrap: anywhere; }}
</style>
<h1>Dense and pruned detector on digit scenes</h1>
<p>{summary}</p>
<table><tr><th>model<th>box AP<th>box AP50<th>mask AP<th>tokens kept<th>GMACs<th>ms<th>backbone ms</tr>
{rows}</table>
<p class="small">Tokens kept: mean over the pruned blocks. GMACs: mean over the timed images; a multiply-add counts
1. ms: median per image, batch 1, both models interleaved on one machine; compare their ratio, not single times.</p>
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


def write_report(
    path: Path, rows: list[dict], models: dict[str, nn.Module], dataset: Sequence, number: int = 6
) -> None:
    """Write the report to ``path``, whole or not at all.

    Args:
        rows: result rows of ``dense`` and ``pruned``.
        models: name -> detector in evaluation mode.
        dataset: test data set to take ``number`` images from.
    """
    dense, pruned = rows
    step = max(1, len(dataset) // number)
    images = "\n".join(_image(models, dataset, i) for i in range(0, len(dataset), step)[:number])
    text = PAGE.format(
        summary=_summary(dense, pruned),
        rows="\n".join(_table_row(r) for r in rows),
        bars="".join(_bar(i, share) for i, share in enumerate(pruned["keep_by_block"])),
        images=images,
        command=html.escape(pruned["command"]),
        commit=pruned["commit"],
        machine=html.escape(f"{pruned['machine']['cpu']}, {pruned['machine']['cores']} cores"),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in pruned["versions"].items())),
    )
    write_file(path, text)


def _summary(dense: dict, pruned: dict) -> str:
    lost = dense["box_AP50"] - pruned["box_AP50"]
    change = f"{abs(lost):.3f} below" if lost > 0 else f"{abs(lost):.3f} above"
    return (
        f"The pruned detector computes {pruned['keep_ratio']:.0%} of the tokens in its pruned blocks; its box AP50 "
        f"is {change} the dense one's ({pruned['box_AP50']:.3f} and {dense['box_AP50']:.3f}). It needs "
        f"{pruned['gmacs'] / dense['gmacs']:.0%} of the whole network's operations and took "
        f"{pruned['ms'] / dense['ms']:.0%} of its time, {pruned['ms_backbone'] / dense['ms_backbone']:.0%} in the "
        "backbone. At this size (256 tokens, six blocks of 96 channels) blocks are a small part of the work: the "
        "demo shows that pruning works, not the speed-up of larger models."
    )


def _table_row(r: dict) -> str:
    cells = [
        r["model"],
        f"{r['box_AP']:.3f}",
        f"{r['box_AP50']:.3f}",
        f"{r['mask_AP']:.3f}",
        f"{r['keep_ratio']:.0%}",
        f"{r['gmacs']:.2f}",
        f"{r['ms']:.0f}",
        f"{r['ms_backbone']:.0f}",
    ]
    return "<tr>" + "".join(f"<td>{c}" for c in cells) + "</tr>"


def _bar(block: int, share: float) -> str:
    bar = f"<div class='track'><div class='bar' style='width:{share:.1%}'>&nbsp;</div></div>"
    return f"<span>block {block}</span>{bar}<span>{share:.0%}</span>"


def _image(models: dict[str, nn.Module], dataset: Sequence, index: int) -> str:
    """Return one validation image with the detections of both models, and the pruned model's tokens in every block."""
    batch = pseudo_collate([dataset[index]])
    image = batch["inputs"][0].flip(0).permute(1, 2, 0).numpy()  # BGR (3, h, w) as loaded
    shown, tokens = {}, None
    for name, model in models.items():
        with torch.no_grad(), Trace() as trace:
            found = model.test_step(batch)[0].pred_instances.numpy()
        found = found[found.scores > THRESHOLD]
        names = [dataset.metainfo["classes"][label] for label in found.labels]
        shown[name] = visualize.detections(image, found.bboxes, found.scores, found.labels, names, found.masks)
        window = Window(0, 0, trace.passes[0].of(0))
        tokens = TokenView(image, (window,), model.backbone.patch_embed.patch_size[0])
    pair = "".join(f"<figure>{_img(shown[name])}<figcaption>{name}</figcaption></figure>" for name in models)
    return f"<div class='pair'>{pair}</div><figure>{_img(tokens.contact_sheet(shown[name]))}</figure>"


def _img(drawing: Image.Image) -> str:
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG", optimize=True)
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
