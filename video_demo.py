"""Draw what a model finds in a film, with frames per second and the share of tokens that it computed.

    python video_demo.py film.mp4 CONFIG CHECKPOINT --out found.mp4
    python video_demo.py FOLDER_OF_FRAMES CONFIG CHECKPOINT --out found.avi --fps 10
    python video_demo.py 0 CONFIG CHECKPOINT --frames 300        # a camera; Ctrl-C ends it sooner

A name that ends in .mp4 is written as MPEG-4, .avi as motion JPEG: what OpenCV can without other libraries.
"""

import os
import re
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.files import replacing
from mmcv_custom.inference import Segmentation
from mmcv_custom.inference.cli import colours, demo_parser, load_predictor, shown
from mmcv_custom.inference.predictor import folder_of
from mmcv_custom.inference.results import check_display
from token_pruning.analysis.sheet import font

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def parse_args():
    parser = demo_parser(__doc__, "video", "film, folder of frames, or a camera's number", "demo.mp4")
    parser.add_argument("--fps", type=float, help="of what is written (default: the film's own, of frames 10)")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after so many")
    parser.add_argument("--tokens", action="store_true", help="put the depth map beside: blocks that computed a token")
    parser.add_argument("--show", action="store_true", help="in a window, too; q ends it")
    parser.add_argument("--wait-time", type=float, default=1, metavar="MS", help="of the window (default: 1)")
    return parser.parse_intermixed_args()


def check(args):
    """End on options that cannot be, before the model is built."""
    if Path(args.out).suffix.lower() not in CODECS:
        raise ConfigError(f"--out {args.out}: films are written as {' or '.join(CODECS)}, give a name that ends so")
    if Path(args.out).resolve() == Path(args.video).resolve():
        raise ConfigError(f"--out {args.out} is the film itself: give another name")
    if (args.fps is not None and not 0 < args.fps <= 1000) or (args.frames is not None and args.frames < 1):
        raise ConfigError("--fps must be above 0 and at most 1000, --frames at least 1")
    if args.show:  # cv2.imshow ends the process where it cannot
        check_display()
        if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
            raise ConfigError("--show needs an OpenCV with windows: watch the file instead")


def frames_of(source):
    """Frames (h, w, 3) uint8 RGB of a film, a camera or a folder; frames per second; how many, or None."""
    if Path(source).is_dir():
        files = folder_of(source)
        return iter(files), 10.0, len(files)
    if not source.isdigit() and not Path(source).is_file():
        raise DataError(f"film {source} does not exist: check the path")
    film = cv2.VideoCapture(int(source) if source.isdigit() else source)
    good, first = film.read() if film.isOpened() else (False, None)
    if not good:
        what = f"camera {source}" if source.isdigit() else f"film {source}"
        raise DataError(f"{what} cannot be opened or has no frames: give one that OpenCV reads (.mp4, .avi, ...)")

    def read():
        good, frame = True, first
        while good:
            yield np.ascontiguousarray(frame[..., ::-1])
            good, frame = film.read()
        film.release()

    number = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
    return read(), film.get(cv2.CAP_PROP_FPS) or 10.0, number if number > 0 else None


class Writer:
    """Writes frames of the first one's size to the file ``part``, which ``path`` is called until all are there.

    Raises:
        ConfigError: OpenCV cannot write to ``path``.
    """

    def __init__(self, path, part, fps):
        self.path, self.part, self.fps, self.film = Path(path), part, fps, None

    def write(self, frame):
        if self.film is None:
            self.size = frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2  # codecs want even sides
            code = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
            self.film = cv2.VideoWriter(str(self.part), code, self.fps, self.size)
            if not self.film.isOpened():
                raise ConfigError(f"--out {self.path} cannot be written: give another folder or another ending")
        if frame.shape[1::-1] != self.size:
            frame = cv2.resize(frame, self.size)
        self.film.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self):
        if self.film is not None:
            self.film.release()


def drawn(result, args, palette, rate):
    """The frame as it is written."""
    sure = shown(result, args.score_thr)
    # A legend's height would change from frame to frame.
    image = sure.draw(palette, legend=False) if isinstance(sure, Segmentation) else sure.draw(palette)
    words = f"{rate:.1f} frames/s"
    if result.tokens is not None:
        words += f"   tokens computed: {np.mean(result.tokens.keep_ratio()):.0%}"
    if args.tokens and result.tokens is not None:
        depth = result.tokens.depth_map()
        depth = depth.resize((round(depth.width * image.height / depth.height), image.height))
        both = Image.new("RGB", (image.width + depth.width, image.height))
        both.paste(image)
        both.paste(depth, (image.width, 0))
        image = both
    pen, size = ImageDraw.Draw(image), max(12, image.height // 28)
    pen.rectangle([0, 0, font(size).getlength(words) + size, 1.6 * size], fill=(0, 0, 0))
    pen.text((size // 2, 0.2 * size), words, (255, 255, 255), font(size))
    return np.asarray(image)


def show(frame, wait):
    """Whether to go on."""
    try:
        cv2.imshow("found", frame[..., ::-1])
        return cv2.waitKey(max(1, round(wait))) != ord("q")
    except cv2.error:
        raise ConfigError("--show needs an OpenCV with windows and a display: watch the file instead") from None


def main():
    args = parse_args()
    check(args)
    frames, fps, number = frames_of(args.video)
    if not (Path(args.out).parent.is_dir() and os.access(Path(args.out).parent, os.W_OK)):
        raise ConfigError(f"--out {args.out} cannot be written: give a folder that is there")
    predictor = load_predictor(args)
    palette = colours(args.palette, predictor)
    kept, seconds = [], []
    number = args.frames if number is None else min(number, args.frames or number)
    with replacing(args.out) as part:
        writer = Writer(args.out, part, args.fps or fps)
        try:
            before = time.perf_counter()
            for result in tqdm(predictor.stream(frames), total=number, unit="frame", dynamic_ncols=True):
                now = time.perf_counter()
                seconds.append(now - before)
                if result.tokens is not None:
                    kept.append(float(np.mean(result.tokens.keep_ratio())))
                frame = drawn(result, args, palette, len(seconds[-10:]) / sum(seconds[-10:]))
                writer.write(frame)
                if (args.show and not show(frame, args.wait_time)) or len(seconds) == args.frames:
                    break
                before = time.perf_counter()
        except KeyboardInterrupt:  # the end of a camera's film
            if writer.film is None:
                raise
        finally:
            writer.close()
    tokens = f", {np.mean(kept):.1%} of the tokens computed" if kept else ""
    print(f"{args.out}: {len(seconds)} frames, {len(seconds) / sum(seconds):.2f} a second (reading and model){tokens}.")


if __name__ == "__main__":
    run(main)
