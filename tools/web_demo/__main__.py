"""Serve a web page that shows what a model finds in an image and which tokens each block computes.

Time and GMACs are shown beside those of the dense model.

    python tools/web_demo                                          # the quickstart models
    python tools/web_demo --models CONFIG=CHECKPOINT CONFIG        # your own; without a checkpoint, random weights

Open the address that it prints. Without --host, only this machine can connect. Uploads are not kept.
docs/visualisation.md explains the page.
"""

import argparse
import socket
import sys
from contextlib import suppress
from pathlib import Path

from pair import TIMING_MS, Pair

from mmcv_custom.cli.launch import run
from mmcv_custom.engine.runner import latest_checkpoint
from mmcv_custom.errors import ConfigError

try:
    import uvicorn
    from server import Limits, make_app
except ModuleNotFoundError as error:
    print(f"web_demo: {error}; install the extra web: pip install 'token-pruning[web]'", file=sys.stderr)
    sys.exit(2)

ROOT = Path(__file__).resolve().parents[2]
# Trained in work_dirs/<name of the config>, the first by `make demo`, the second by `make demo ARGS=--from-scratch`.
QUICKSTART = (
    "configs/quickstart/digits_svit-adapter-t.py",
    "configs/quickstart/digits_svit-adapter-nano.py",
    "configs/quickstart/pennfudan_svit-adapter-nano.py",
)
LOCAL = ("127.0.0.1", "localhost", "::1")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="CONFIG[=CHECKPOINT]",
        help="each is shown beside its dense counterpart (default: the quickstart models, as `make demo` trained them)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument(
        "--score-thr", type=float, default=0.3, metavar="S", help="least score of drawn detections (default: 0.3)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=7860, help="0: any free port (default: 7860)")
    parser.add_argument(
        "--max-mb",
        type=float,
        default=Limits.megabytes,
        metavar="MB",
        help=f"largest upload (default: {Limits.megabytes})",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=Limits.megapixels,
        metavar="MP",
        help=f"largest image (default: {Limits.megapixels})",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=Limits.queue,
        metavar="N",
        help=f"images that may wait while another one runs (default: {Limits.queue})",
    )
    parser.add_argument(
        "--timing-ms",
        type=float,
        default=TIMING_MS,
        metavar="MS",
        help=f"time spent on timing both models again, for each image (default: {TIMING_MS}; 0: each runs once)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    limited = args.max_mb > 0 and args.max_megapixels > 0 and args.queue >= 0
    if not (limited and 0 <= args.score_thr <= 1 and args.timing_ms >= 0):
        raise ConfigError(
            "--max-mb and --max-megapixels must be above 0, --queue and --timing-ms 0 or more, --score-thr from 0 to 1"
        )
    listening = listen(args.host, args.port)
    pairs = load(args.models or quickstart(), args.device, args.score_thr, args.timing_ms)
    limits = Limits(args.max_mb, args.max_megapixels, args.queue)
    local = args.host in LOCAL
    app = make_app(pairs, limits, ["127.0.0.1", "localhost", "[::1]"] if local else ["*"])
    if not local:
        print(f"Note: whoever can reach {args.host} can use this server; there is no password.")
    host = f"[{args.host}]" if ":" in args.host else args.host
    config = uvicorn.Config(
        app,
        log_level="warning",
        http="h11",
        ws="none",
        lifespan="off",
        server_header=False,
        limit_concurrency=100,
        timeout_graceful_shutdown=3,
    )
    with suppress(KeyboardInterrupt):
        print(f"Open http://{host}:{listening.getsockname()[1]} (Ctrl-C stops the server).", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise ConfigError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}): give another --host or --port") from None


def quickstart() -> list[str]:
    """Return CONFIG=CHECKPOINT of each quickstart model that was trained here; without any, the first config alone."""
    folders = [Path("work_dirs"), ROOT / "work_dirs"]
    runs = [(config, [latest_checkpoint(str(f / Path(config).stem)) for f in folders]) for config in QUICKSTART]
    found = [(ROOT / config, next(filter(None, files), None)) for config, files in runs]
    return [f"{config}={checkpoint}" for config, checkpoint in found if checkpoint] or [str(ROOT / QUICKSTART[0])]


def load(models: list[str], device: str, score_thr: float, timing_ms: float) -> dict[str, Pair]:
    """Return name -> ``Pair``; each model has run once."""
    pairs = {}
    for model in models:
        config, _, checkpoint = model.partition("=")
        pair = Pair(config, checkpoint or None, device, score_thr, timing_ms)
        while pair.name in pairs:
            pair.name += "'"
        pairs[pair.name] = pair
        print(
            f"{pair.name}: {pair.task.name}, {pair.predictor.method or 'dense'}, {checkpoint or 'random weights'}",
            flush=True,
        )
    return pairs


if __name__ == "__main__":
    run(main)
