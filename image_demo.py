"""Draw what a model finds in a picture or in a folder of pictures, and write it as JSON.

    python image_demo.py street.jpg CONFIG CHECKPOINT --out demo --score-thr 0.4

Writes NAME.jpg for every picture, results.json (with the share of tokens that each block computed) and, of detectors
and segmentors, coco.json in COCO's result format, image_id counting the pictures from 0.
"""

import json
from pathlib import Path

from mmcv_custom.errors import ConfigError
from mmcv_custom.launch import run
from mmcv_custom.predict.options import (
    colours,
    demo_parser,
    load_predictor,
    make_folder,
    results_of,
    write_numbers,
    write_text,
)
from mmcv_custom.predict.results import save_picture


def parse_args():
    parser = demo_parser(__doc__, "img", "picture or folder", "demo")
    parser.add_argument("--show", action="store_true", help="open each in the desktop's viewer, too")
    return parser.parse_args()


def main():
    args = parse_args()
    source = Path(args.img) if Path(args.img).is_dir() else Path(args.img).parent
    if Path(args.out).resolve() == source.resolve():
        raise ConfigError(f"--out {args.out} holds the pictures themselves: give another folder")
    predictor = load_predictor(args)
    folder = make_folder(args.out)
    palette = colours(args.palette, len(predictor.classes))
    numbers, entries = [], []
    for name, result in results_of(predictor, args.img, args.score_thr):
        save_picture(result.draw(palette), folder / f"{name}.jpg")
        if args.show:
            result.show()
        numbers.append(result.to_dict())
        entries += result.to_coco(len(numbers) - 1)
        print(f"{name}: {in_words(result)}", flush=True)
    write_numbers(folder / "results.json", predictor, numbers)
    if result.task != "classification":
        write_text(folder / "coco.json", json.dumps(entries))
    print(f"Written to {folder}: {len(numbers)} picture{'s' * (len(numbers) != 1)} and results.json.")


def in_words(result):
    if result.task == "detection":
        return ", ".join(f"{name} {score:.2f}" for name, score in zip(result.names, result.scores, strict=True)) or \
            "nothing above --score-thr"
    best = list(result.shares().items()) if result.task == "segmentation" else result.top()
    return ", ".join(f"{name} {share:.1%}" for name, share in best[:5])


if __name__ == "__main__":
    run(main)
