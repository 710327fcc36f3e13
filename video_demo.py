"""Draw what a model finds in a video, with frames per second and the fraction of tokens that it computed.

    python video_demo.py street.mp4 CONFIG CHECKPOINT --out found.mp4
    python video_demo.py FOLDER_OF_FRAMES CONFIG CHECKPOINT --out found.avi --fps 10
    python video_demo.py 0 CONFIG CHECKPOINT --frames 300        # a camera; stop earlier with Ctrl-C

A name ending in .mp4 is written as MPEG-4, .avi as motion JPEG: OpenCV writes both without other libraries.
"""

import argparse
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError, DataError
from mmcv_custom.files import replacing
from mmcv_custom.inference import Result
from mmcv_custom.inference.cli import demo_parser, load_predictor, note, palette_of
from mmcv_custom.inference.predictor import image_files
from mmcv_custom.inference.results import check_display
from token_pruning.analysis.sheet import depth_bar, font

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def parse_args() -> argparse.Namespace:
    parser = demo_parser(__doc__, "video", "video, folder of frames, or number of a camera", "demo.mp4")
    parser.add_argument("--fps", type=float, help="of the output (default: that of the video; 10 for a folder)")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--tokens", action="store_true", help="add the depth map: how many blocks computed each token")
    parser.add_argument("--show", action="store_true", help="also show it in a window; q stops")
    parser.add_argument("--wait-time", type=float, default=1, metavar="MS", help="pause per shown frame (default: 1)")
    return parser.parse_intermixed_args()


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for options that cannot work, before the model is built."""
    if Path(args.out).suffix.lower() not in CODECS:
        raise ConfigError(f"--out {args.out}: videos are written as {' or '.join(CODECS)}, give a name that ends so")
    if Path(args.out).resolve() == Path(args.video).resolve():
        raise ConfigError(f"--out {args.out} is the input video itself: give another name")
    if (args.fps is not None and not 0 < args.fps <= 1000) or (args.frames is not None and args.frames < 1):
        raise ConfigError("--fps must be above 0 and at most 1000, --frames at least 1")
    if args.show:  # cv2.imshow aborts the process where there are no windows
        check_display()
        if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
            raise ConfigError("--show needs an OpenCV with windows: watch the output file")


def frames_of(source: str) -> tuple[Iterator[np.ndarray | Path], float, int | None]:
    """Return the frames (h, w, 3) uint8 RGB of a video, camera or folder, the frame rate, and their number or None."""
    if Path(source).is_dir():
        files = image_files(source, note)
        return iter(files), 10.0, len(files)
    if not source.isdigit() and not Path(source).is_file():
        raise DataError(f"video {source} does not exist: check the path")
    video = cv2.VideoCapture(int(source) if source.isdigit() else source)
    good, first = video.read() if video.isOpened() else (False, None)
    if not good:
        if source.isdigit():
            raise DataError(f"camera {source} gives no frames: check that it is connected and not in use")
        raise DataError(f"video {source} cannot be opened or has no frames: give one that OpenCV reads (.mp4, .avi)")

    def read() -> Iterator[np.ndarray]:
        good, frame = True, first
        while good:
            yield np.ascontiguousarray(frame[..., ::-1])
            good, frame = video.read()
        video.release()

    number = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    return read(), video.get(cv2.CAP_PROP_FPS) or 10.0, number if number > 0 else None


class VideoFile:
    """Video whose frames all get the size of the first.

    Args:
        path: final name, which sets the codec.
        part: file to write to, renamed to ``path`` by the caller when it is complete.

    Raises:
        ConfigError: OpenCV cannot write to ``path``.
    """

    def __init__(self, path: str, part: Path, fps: float) -> None:
        self.path, self.part, self.fps, self.writer = Path(path), part, fps, None

    def write(self, frame: np.ndarray) -> None:
        """Write a frame (h, w, 3) uint8 RGB."""
        if self.writer is None:
            self.size = frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2  # codecs want even sides
            code = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
            self.writer = cv2.VideoWriter(str(self.part), code, self.fps, self.size)
            if not self.writer.isOpened():
                raise ConfigError(f"--out {self.path} cannot be written: give another folder or suffix")
        if frame.shape[1::-1] != self.size:
            frame = cv2.resize(frame, self.size)
        self.writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self) -> None:
        """Finish the file."""
        if self.writer is not None:
            self.writer.release()


def drawn(result: Result, args: argparse.Namespace, palette: list | None, rate: float) -> np.ndarray:
    """Return the output frame of a result."""
    # The height of a legend would change from frame to frame.
    image = result.above(args.score_thr).draw(palette, legend=False)
    words = f"{rate:.1f} frames/s"
    if result.tokens is not None:
        words += f"   tokens kept: {result.tokens.mean_keep_ratio():.0%}"
    if args.tokens and result.tokens is not None:
        depth = depth_bar(result.tokens.depth_map(), len(result.tokens.blocks))
        depth = depth.resize((round(depth.width * image.height / depth.height), image.height))
        both = Image.new("RGB", (image.width + depth.width, image.height))
        both.paste(image)
        both.paste(depth, (image.width, 0))
        image = both
    pen, size = ImageDraw.Draw(image), max(12, image.height // 28)
    pen.rectangle([0, 0, font(size).getlength(words) + size, 1.6 * size], fill=(0, 0, 0))
    pen.text((size // 2, 0.2 * size), words, (255, 255, 255), font(size))
    return np.asarray(image)


def show(frame: np.ndarray, wait: float) -> bool:
    """Show a frame in a window; return False when q was pressed."""
    try:
        cv2.imshow("found", frame[..., ::-1])
        return cv2.waitKey(max(1, round(wait))) != ord("q")
    except cv2.error:
        raise ConfigError("--show needs a display and an OpenCV with windows: watch the output file") from None


def main() -> None:
    args = parse_args()
    check(args)
    frames, fps, number = frames_of(args.video)
    if not (Path(args.out).parent.is_dir() and os.access(Path(args.out).parent, os.W_OK)):
        raise ConfigError(f"--out {args.out} cannot be written: give a folder that exists and is writable")
    predictor = load_predictor(args)
    palette = palette_of(args.palette, predictor)
    kept, seconds = [], []
    number = args.frames if number is None else min(number, args.frames or number)
    with replacing(args.out) as part:
        video = VideoFile(args.out, part, args.fps or fps)
        try:
            before = time.perf_counter()
            for result in tqdm(predictor.stream(frames), total=number, unit="frame", dynamic_ncols=True):
                now = time.perf_counter()
                seconds.append(now - before)
                if result.tokens is not None:
                    kept.append(result.tokens.mean_keep_ratio())
                frame = drawn(result, args, palette, len(seconds[-10:]) / sum(seconds[-10:]))
                video.write(frame)
                if (args.show and not show(frame, args.wait_time)) or len(seconds) == args.frames:
                    break
                before = time.perf_counter()
        except KeyboardInterrupt:  # how the recording of a camera ends
            if video.writer is None:
                raise
        finally:
            video.close()
    tokens = f", {np.mean(kept):.1%} of the tokens kept in pruned blocks" if kept else ""
    print(f"{args.out}: {len(seconds)} frames, {len(seconds) / sum(seconds):.2f} a second (reading and model){tokens}.")


if __name__ == "__main__":
    run(main)
