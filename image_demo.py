"""Draw what a model finds in an image or in a folder of images, and write it as JSON.

    python image_demo.py street.jpg CONFIG CHECKPOINT --out demo --score-thr 0.4

Writes NAME.jpg for every image, results.json (with the fraction of tokens that each block computed) and, for detectors
and segmentors, coco.json in COCO's result format; of a panoptic model both hold its segments. In coco.json, image_id
counts the results of results.json from 1; with --ann it is the id that the annotation file gives to an image of that
file name, and category_id the id of a category of that name, so that the file can be evaluated. The files contain
everything that was found, the images only what reaches --score-thr.
"""

import argparse

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
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
from mmcv_custom.inference.coco_ids import CocoIds
from mmcv_custom.inference.results import check_display, save_image
from mmcv_custom.results import write_json
from mmcv_custom.tasks import task_of


def parse_args() -> argparse.Namespace:
    parser = demo_parser(__doc__, "img", "image or folder", "demo")
    parser.add_argument("--show", action="store_true", help="also open each image in the desktop's viewer")
    parser.add_argument("--ann", metavar="FILE", help="annotation file whose image and category ids coco.json takes")
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    files = input_files(args.img, args.out)
    if args.show:
        check_display()
    ids = CocoIds(args.ann) if args.ann else None
    image_ids = {str(file): ids.image(file) for file in files} if ids else {}
    predictor = load_predictor(args)
    if ids and not task_of(predictor.cfg).coco_format:
        raise ConfigError("--ann numbers the entries of coco.json, which is written for detectors and segmentors only")
    category_ids = ids.categories(predictor.classes) if ids else None
    folder = make_folder(args.out)
    palette = palette_of(args.palette, predictor)
    numbers, entries, left_out = [], [], []
    for name, result in named_results(predictor, files, left_out):
        drawn = result.above(args.score_thr)
        image = drawn.draw(palette)
        save_image(image, folder / f"{name}.jpg")
        if args.show:
            image.show()
        entries += result.to_coco(image_ids.get(result.path, len(numbers) + 1), category_ids)
        numbers.append(result.to_dict())
        print(f"{name}: {drawn.summary()}", flush=True)
    write_results(folder / "results.json", predictor, numbers, left_out)
    written = "results.json"
    if task_of(predictor.cfg).coco_format:
        write_json(folder / "coco.json", entries)
        written += " and coco.json"
    print(f"Written to {folder}: {len(numbers)} image{'s' * (len(numbers) != 1)}, {written}.")
    check_left_out(left_out)


if __name__ == "__main__":
    run(main)
