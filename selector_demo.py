"""Show which tokens a model computes in images, block by block, beside what it finds.

    python selector_demo.py street.jpg CONFIG CHECKPOINT --out demo
    python selector_demo.py FOLDER CONFIG CHECKPOINT --ratio 0.6
    python selector_demo.py CONFIG none              # an example photograph, random weights

Writes index.html, results.json and, for every image, what was found, a depth map (how many blocks computed each
token), an overlay per block, a chart and a sheet of all. docs/visualisation.md explains how to read them.
"""

import argparse

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.files import write_file
from mmcv_custom.inference import TokenView
from mmcv_custom.inference.cli import (
    check_left_out,
    demo_parser,
    input_files,
    load_predictor,
    make_folder,
    named_results,
    palette_of,
    write_results,
)
from mmcv_custom.inference.html_report import page, section


def parse_args() -> argparse.Namespace:
    return demo_parser(
        __doc__, "image", "image or folder (default: an example photograph)", "demo", optional=True
    ).parse_intermixed_args()


def main() -> None:
    args = parse_args()
    files = None if args.image is None else input_files(args.image, args.out)
    predictor = load_predictor(args)
    folder = make_folder(args.out)
    palette = palette_of(args.palette, predictor)
    sections, numbers, left_out = [], [], []
    for name, result in named_results(predictor, files, left_out):
        if result.tokens is None:
            raise ConfigError(f"{args.config} has a backbone that records no tokens: give one of this project's")
        sections.append(section(name, result.above(args.score_thr), folder, palette))
        numbers.append(result.to_dict())
        print_use_rates(name, result.tokens)
    facts = [
        f"{args.config}, weights: {args.checkpoint}, {predictor.method or 'dense'}"
        + (f", {predictor.setting}" if predictor.method else "")
        + ".",
        *(f"{sentence}." for sentence in [*predictor.notes, *left_out]),
    ]
    write_results(folder / "results.json", predictor, numbers, left_out)
    write_file(folder / "index.html", page("Which tokens were computed", facts, sections))
    print(f"Written to {folder / 'index.html'}.")
    check_left_out(left_out)


def print_use_rates(name: str, tokens: TokenView) -> None:
    """Print the fraction of computed tokens by block, in the format of the published demo."""
    ratios = tokens.keep_ratio()
    print(f"{name}\nToken Use Rate:")
    for block, ratio in zip(tokens.blocks, ratios, strict=True):
        print(f"  block {block:2d}: {100 * ratio:7.3f}%")
    print(f"total use rate: {sum(ratios) / len(ratios):.3f}")
    print(f"kept in pruned blocks: {tokens.mean_keep_ratio():.3f}", flush=True)


if __name__ == "__main__":
    run(main)
