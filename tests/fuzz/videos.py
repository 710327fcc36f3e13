"""Videos, sound and broken, through video_demo."""

import sys
from pathlib import Path

import cv2
import numpy as np
from fuzz.contract import Broken, Case
from fuzz.images import predictor
from scripts import load_script

from mmcv_custom.cli.launch import run as run_main

KINDS = {"avi": "MJPG", "mp4": "mp4v"}


def write(case: Case) -> tuple[Path, int]:
    """Write a video; return its path and how many frames it must give (-1: any number)."""
    suffix, frames = case.choose(*KINDS), case.choose(1, 2, 4)
    size = case.choose((64, 48), (65, 33), (32, 200))
    path = case.folder / f"a.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*KINDS[suffix]), 5, size)
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), 40 * i, np.uint8))
    writer.release()
    how = case.choose("sound", "sound", "cut", "empty", "text", "no frames", "other suffix", "bytes", "folder", "image")
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: case.random.randrange(len(data))])
    elif how in ("empty", "text"):
        path.write_bytes(b"" if how == "empty" else b"no video\n" * 50)
    elif how == "no frames":
        cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*KINDS[suffix]), 5, size).release()
    elif how == "bytes":
        changed = bytearray(data)
        for _ in range(30):
            changed[case.random.randrange(len(changed))] = case.random.randrange(256)
        path.write_bytes(bytes(changed))
    elif how == "other suffix":
        path = path.rename(path.with_suffix(case.choose(".mp4", ".txt", ".jpg", ".mov")))
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "image":
        cv2.imwrite(str(case.folder / "a.png"), np.zeros((48, 64, 3), np.uint8))
        path = case.folder / "a.png"
    case.given = f"{how} {path.name} of {frames} frames of {size}"
    return path, frames if how == "sound" and path.suffix != ".png" else -1


def run(case: Case) -> None:
    """Run video_demo on one file: a whole video comes out, or one sentence and nothing."""
    path, frames = write(case)
    demo = load_script("video_demo.py")
    demo.load_predictor = lambda args: predictor("detector")
    out = case.folder / f"out{case.choose('.avi', '.mp4')}"
    before, status = sys.argv, 0
    sys.argv = ["video_demo.py", str(path), "config.py", "none", "--out", str(out)]
    try:
        run_main(demo.main)
    except SystemExit as end:
        status = end.code
        said = [line for line in sys.stderr.getvalue().splitlines() if line.startswith("video_demo.py: ")]
        if status != 2 or not said or str(case.folder) not in said[-1]:
            raise Broken(f"video_demo ends with status {status} and says {said}") from None
    finally:
        sys.argv = before
    if status and (out.exists() or frames >= 0):
        raise Broken(f"video_demo ends with {sys.stderr.getvalue()[-300:]!r}; output written: {out.exists()}")
    if not status:
        video, number = cv2.VideoCapture(str(out)), 0
        while video.read()[0]:
            number += 1
        if not number or (frames >= 0 and number != frames):
            raise Broken(f"{number} frames are written of {frames}")
