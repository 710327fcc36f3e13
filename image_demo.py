"""Draw what a model finds in an image or in a folder of images, and write it as JSON.

    python image_demo.py street.jpg CONFIG CHECKPOINT --out demo --score-thr 0.4

Writes NAME.jpg for every image, results.json (with the share of tokens that each block computed) and, of detectors
and segmentors, coco.json in COCO's result format, image_id counting the results of results.json from 0. The files hold
everything that was found, the images what is above --score-thr.
"""

from mmcv_custom.cli.launch import run
from mmcv_custom.inference.cli import (
    colours,
    demo_parser,
    end,
    files_of,
    load_predictor,
    make_folder,
    results_of,
    shown,
    write_numbers,
)
from mmcv_custom.inference.results import check_display, save_image
from mmcv_custom.results import write_json


def parse_args():
    parser = demo_parser(__doc__, "img", "image or folder", "demo")
    parser.add_argument("--show", action="store_true", help="open each in the desktop's viewer, too")
    return parser.parse_intermixed_args()


def main():
    args = parse_args()
    files = files_of(args.img, args.out)
    if args.show:
        check_display()
    predictor = load_predictor(args)
    folder = make_folder(args.out)
    palette = colours(args.palette, predictor)
    numbers, entries, left_out = [], [], []
    for name, result in results_of(predictor, files, left_out):
        sure = shown(result, args.score_thr)
        image = sure.draw(palette)
        save_image(image, folder / f"{name}.jpg")
        if args.show:
            image.show()
        numbers.append(result.to_dict())
        entries += result.to_coco(len(numbers) - 1)
        print(f"{name}: {in_words(sure)}", flush=True)
    write_numbers(folder / "results.json", predictor, numbers, left_out)
    if result.task != "classification":
        write_json(folder / "coco.json", entries)
    print(f"Written to {folder}: {len(numbers)} image{'s' * (len(numbers) != 1)} and results.json.")
    end(left_out)


def in_words(result):
    if result.task == "detection":
        return (
            ", ".join(f"{name} {score:.2f}" for name, score in zip(result.names, result.scores, strict=True))
            or "nothing above --score-thr"
        )
    best = list(result.shares().items()) if result.task == "segmentation" else result.top()
    return ", ".join(f"{name} {share:.1%}" for name, share in best[:5])


if __name__ == "__main__":
    run(main)
