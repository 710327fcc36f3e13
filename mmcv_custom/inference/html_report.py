"""HTML report about the tokens that a model computed in some images, with its image files beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from token_pruning.analysis.plot import COLOURS, STATES

from .results import Result, save_image

STYLE = """
 :root { color-scheme: light dark; --line: #8886; --page: #fff; --ink: #1a1a1a; }
 @media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e8e8e8; } }
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2rem auto; padding: 0 1rem;
        background: var(--page); color: var(--ink); }
 h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; overflow-wrap: anywhere; }
 figure { margin: 0; } img { width: 100%; display: block; border-radius: 4px; }
 figcaption, .small { font-size: .85rem; opacity: .85; }
 .top { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 1.2rem; }
 .blocks { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 1rem; margin: 1.2rem 0; }
 .bars { display: grid; grid-template-columns: 5rem 1fr 4rem; gap: .25rem .75rem; max-width: 640px; }
 .bar { display: flex; height: 1.3rem; border-radius: 3px; overflow: hidden; align-self: center; }
 .key { display: inline-block; width: .9em; height: .9em; border: 1px solid var(--line); border-radius: 2px;
        vertical-align: -.1em; margin: 0 .3rem 0 1rem; }
 .scale { display: flex; height: .6rem; margin: .3rem 0 0; border-radius: 3px; overflow: hidden; }
"""
HOW = """Bright: the block computes this token. Blue: it skips the token, but a later block uses it again. Dark: neither
this block nor a later one uses it. Outlined areas of one colour: tokens that were merged into one. Every token keeps
its position in the feature map."""


def section(name: str, result: Result, folder: Path, palette: Sequence | None = None) -> str:
    """Write the images of ``result`` into ``folder / name`` and return the section of the page that shows them."""
    tokens, target, link = result.tokens, folder / name, quote(name)

    def figure(file: str, image, caption: str) -> str:
        save_image(image, target / file)
        return f"<figure><img src='{link}/{file}' alt=''><figcaption>{caption}</figcaption></figure>"

    found = result.draw(palette)
    top = [
        figure("found.jpg", found, "found"),
        figure(
            "depth_map.png",
            tokens.depth_map(),
            f"how many of the {len(tokens.blocks)} blocks computed each token: dark blue none, yellow all",
        ),
    ]
    if tokens.exits():
        legend = "".join(_key(words, swatch) for words, swatch in tokens.exit_legend())
        top.append(figure("exits.jpg", tokens.exit_map(), f"after which block tokens exit {legend}"))
    ratios, shares = tokens.keep_ratio(), tokens.shares()
    blocks = [
        figure(f"block_{block:02d}.jpg", tokens.overlay(block), f"block {block}: {ratio:.1%}")
        for block, ratio in zip(tokens.blocks, ratios, strict=True)
    ]
    save_image(tokens.chart(), target / "chart.png")
    save_image(tokens.contact_sheet(found, name), target / "sheet.jpg")
    bars = "".join(_bar(*row) for row in zip(tokens.blocks, shares.tolist(), strict=True))
    present = [state for state in range(len(STATES)) if shares[:, state].any()]
    keys = "".join(_key(STATES[state], COLOURS[state]) for state in present)
    return (
        f"<h2>{html.escape(name)}</h2><div class='top'>{''.join(top)}</div>"
        f"<p>{tokens.mean_keep_ratio():.1%} of the tokens kept, mean over the pruned blocks "
        f"(<a href='{link}/sheet.jpg'>all on one sheet</a>).</p>"
        f"<div class='bars'>{bars}</div><p class='small'>{keys}</p><div class='blocks'>{''.join(blocks)}</div>"
    )


def page(title: str, facts: Sequence[str], sections: Sequence[str]) -> str:
    """Return the whole page; ``facts`` are sentences above the images."""
    head_facts = "".join(f"<p class='small'>{html.escape(fact)}</p>" for fact in facts)
    head = (
        f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    return (
        f"<!doctype html>\n<html lang='en'>{head}\n<h1>{html.escape(title)}</h1>{head_facts}<p>{HOW}</p>\n"
        + "\n".join(sections)
        + "\n</html>\n"
    )


def _key(words: str, swatch: tuple[int, int, int]) -> str:
    return f"<span class='key' style='background:rgb{swatch}'></span>{html.escape(words)}"


def _bar(block: int, shares: Sequence[float]) -> str:
    parts = "".join(
        f"<div style='width:{share:.2%};background:rgb{COLOURS[state]}' title='{STATES[state]}: {share:.1%}'></div>"
        for state, share in enumerate(shares)
    )
    return f"<span>block {block}</span><div class='bar'>{parts}</div><span>{shares[0]:.0%}</span>"
