"""Export a model to a file that runs without this project: torch.export, AOTInductor, ONNX or OpenVINO.

    python tools/export.py CONFIG CHECKPOINT --out model.onnx --shape 800 1344
    python tools/export.py CONFIG CHECKPOINT --format openvino --out model.xml --dynamic batch --preprocess
    python tools/export.py CONFIG CHECKPOINT --out model8.onnx --precision int8 --calibrate IMAGES

Classifiers give probabilities, segmentors the label map, detectors boxes, scores, labels and masks. The file is run on
images and compared with PyTorch before it gets its name; one that computes something else is not kept. It holds its
classes, normalisation, method and cost, and the demos take it instead of a config: image_demo.py IMAGE model.onnx. What
exports where is in docs/export.md.
"""

import argparse
import warnings
from pathlib import Path

from mmcv_custom.cli.launch import run
from mmcv_custom.export.detection import MASKS
from mmcv_custom.export.exporting import check_free
from mmcv_custom.export.formats import FORMATS, PRECISIONS, format_named
from mmcv_custom.export.graphs import OUTPUTS
from mmcv_custom.export.trace import DYNAMIC
from mmcv_custom.inference.cli import note
from mmcv_custom.inference.export import export
from mmcv_custom.inference.predictor import Predictor


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of a detector, segmentor or classifier")
    parser.add_argument("checkpoint", help="its weights; none: random weights")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write (.pt2, .onnx, .xml)")
    parser.add_argument("--format", choices=FORMATS, help="default: by the suffix of --out; of .pt2 torch-export")
    parser.add_argument("--shape", nargs=2, type=int, metavar=("H", "W"), help="input (default: the model's own)")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="images of one input (default: 1)")
    parser.add_argument("--dynamic", nargs="+", choices=DYNAMIC, default=[], help="what of the input is left free")
    parser.add_argument("--outputs", choices=OUTPUTS, default="predictions", help="default: predictions")
    parser.add_argument("--masks", choices=MASKS, default="roi", help="inside boxes, or of the input's size")
    parser.add_argument("--tokens", action="store_true", help="also return which tokens each block computed")
    parser.add_argument("--preprocess", action="store_true", help="normalise inside the file: it takes uint8 RGB")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default: fp32")
    parser.add_argument("--calibrate", metavar="FOLDER", help="images that int8 sees first")
    parser.add_argument("--images", metavar="FOLDER", help="images to compare on (default: generated ones)")
    parser.add_argument("--ratio", type=float, metavar="X", help="set the method's cost parameter, as in the demos")
    parser.add_argument("--execution", choices=["exact", "capacity"], help="of the blocks; default: the config's")
    parser.add_argument("--tolerance", type=float, metavar="T", help="largest difference from PyTorch")
    parser.add_argument("--force", action="store_true", help="replace FILE")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # What can be said before the model is built.
    format_named(args.format, Path(args.out)).check(args.precision)
    check_free(Path(args.out), args.force)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = Predictor(args.config, None if args.checkpoint == "none" else args.checkpoint)
    if args.ratio is not None:
        predictor.set_cost(args.ratio)
    if args.execution is not None:
        predictor.model.backbone.execution = args.execution
    for sentence in predictor.notes:
        note(sentence)
    names = "shape batch dynamic outputs masks tokens preprocess precision calibrate images tolerance force".split()
    chosen = {name: getattr(args, name) for name in names}
    print(export(predictor, args.out, args.format, **chosen).summary())


if __name__ == "__main__":
    run(main)
