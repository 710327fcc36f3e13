"""Use the web page as many users at once do, broken uploads among their images, and report how it held.

    python tools/reliability/web_load.py --minutes 10 --json rows.json

Users have addresses of their own (127.0.0.2 and on) and send one request after the other; the first one is greedy and
sends ``GREED`` at once, all the time. Every answer must be one that the request deserves: an image gets its result, a
broken upload a sentence, and no request a status of 500 or none at all. The row holds each user's share of the
results, the longest wait for one of all but the greedy one (in seconds, and in results that others got meanwhile), and
the growth of the server's memory. Linux only: elsewhere 127.0.0.2 is no address.
"""

import argparse
import random
import socket
import threading
import time
import zlib
from collections import Counter
from http.client import HTTPException
from pathlib import Path

from growth import MODELS, growth, private_mb, sizes
from rows import write_rows
from serving import Server, serving, upload

from mmcv_custom.cli.launch import run
from mmcv_custom.errors import ConfigError
from mmcv_custom.results import row

ROOT = Path(__file__).resolve().parents[2]
GREED = 5  # requests that the greedy user has open at once
BROKEN, LEAVING = 0.25, 0.02  # shares of broken uploads, and of users who hang up
IMAGES = 8  # of every user
READ_S = 2  # seconds between two looks at the memory


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20, metavar="N", help="at once (default: 20)")
    parser.add_argument("--minutes", type=float, default=10, metavar="M", help="duration (default: 10)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the row to FILE")
    args = parser.parse_args()
    if not (2 <= args.users <= 200 and args.minutes > 0):
        raise ConfigError("--users must be from 2 to 200 and --minutes above 0")
    return args


def _png(width: int, height: int, data: bytes) -> bytes:
    """Return a PNG whose header promises a size, with ``data`` as its compressed pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


# Name -> (body, query, the statuses that are right); None stands for a good image.
BROKEN_UPLOADS: dict[str, tuple[bytes | None, dict, set[int]]] = {
    "empty": (b"", {}, {400}),
    "text": (b"no image " * 50, {}, {400}),
    "pixels missing": (_png(300, 300, b"\0" * 1000), {}, {400}),
    "decompression bomb": (_png(60000, 60000, b"\0" * 10**6), {}, {400}),
    "one pixel high": (_png(300, 1, b"\0" * 901), {}, {400}),
    "too large": (b"\xff" * 2_500_000, {}, {413}),
    "no such model": (None, dict(model="nowhere"), {404}),
    "cost out of range": (None, dict(cost_value="1e9"), {400}),
    "cost no number": (None, dict(cost_value="much"), {400}),
}


def break_upload(image: bytes, random_number: random.Random) -> tuple[str, bytes, dict, set[int]]:
    """Return the name of a mistake, the body and the query with it, and the statuses that are right."""
    name = random_number.choice([*BROKEN_UPLOADS, "cut short", "damaged"])
    if name == "cut short":
        return name, image[: random_number.randrange(1, len(image) // 2)], {}, {400}
    if name == "damaged":  # a decoder may go on after an error
        at = random_number.randrange(len(image) - 50)
        return name, image[:at] + random_number.randbytes(50) + image[at + 50 :], {}, {200, 400}
    body, query, right = BROKEN_UPLOADS[name]
    return name, image if body is None else body, query, right


def leave_early(server: Server, address: str, model: str) -> None:
    """Promise an image, send half of it, and hang up."""
    with socket.create_connection((server.host, server.port), 60, source_address=(address, 0)) as connection:
        head = f"POST /run?model={model} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 40000)


class Load:
    """All users, and what they were answered."""

    def __init__(self, server: Server, names: list[str], users: int, seed: int) -> None:
        self.server, self.names, self.seed, self.over = server, names, seed, threading.Event()
        self.lock, self.statuses, self.wrong = threading.Lock(), Counter(), []
        self.results, self.waits = Counter(dict.fromkeys(range(users), 0)), []
        self.threads = [
            threading.Thread(target=self._user, args=(user, number), daemon=True)
            for user in range(users)
            for number in range(GREED if user == 0 else 1)
        ]

    def _user(self, user: int, number: int) -> None:
        random_number = random.Random(self.seed * 1000 + 10 * user + number)
        images = [upload(*size, i) for i, size in enumerate(sizes(IMAGES, user))]
        address = f"127.0.0.{user + 2}"
        while not self.over.is_set():
            image, model = random_number.choice(images), random_number.choice(self.names)
            name, body, query, right = "image", image, {}, {200}
            if random_number.random() < LEAVING:
                leave_early(self.server, address, model)
                self._count("left early", "hung up", {"hung up"})
                continue
            if random_number.random() < BROKEN:
                name, body, query, right = break_upload(image, random_number)
            self._ask(user, address, name, body, dict(model=model) | query, right)

    def _ask(self, user: int, address: str, name: str, body: bytes, query: dict, right: set) -> None:
        """Ask until the server has a place, as it requests, and record the answer."""
        began, before = time.monotonic(), self.results.total()
        while True:
            try:
                status, content = self.server.run(body, address=address, **query)
            except (OSError, HTTPException, ValueError) as error:
                status, content = type(error).__name__, {}
            self._count(name, status, right | {503})
            if status != 503:
                break
            if self.over.wait(3):  # the answer's Retry-After
                return
        with self.lock:
            if status == 200:
                if not self.over.is_set():  # later on, those with most open requests would get most
                    self.waits.append((time.monotonic() - began, self.results.total() - before, user))
                    self.results[user] += 1
            elif "error" not in content:
                self.wrong.append(f"{name}: {status} without a sentence")

    def _count(self, name: str, status: int | str, right: set) -> None:
        with self.lock:
            self.statuses[status] += 1
            if status not in right:
                self.wrong.append(f"{name}: {status}")

    def run(self, seconds: float) -> list[tuple[int, float]]:
        """Let all users work and return (requests, MB) points of the server's memory."""
        for thread in self.threads:
            thread.start()
        points, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(READ_S, max(end - time.monotonic(), 0.01)))
            points.append((self.statuses.total(), private_mb(self.server.process)))
        self.over.set()
        for thread in self.threads:
            thread.join()
        return points


def fields_of(load: Load, points: list[tuple[int, float]], minutes: float) -> dict:
    """Return the fields of the row."""
    share = [count / max(load.results.total(), 1) for _, count in sorted(load.results.items())]
    other = {str(status): n for status, n in load.statuses.items() if status not in (200, 400, 404, 413, 503)}
    known = {f"status_{status}": load.statuses[status] for status in (200, 503, 500)}
    return dict(
        users=len(load.results),
        minutes=minutes,
        requests=load.statuses.total(),
        **known,
        refused=sum(load.statuses[status] for status in (400, 404, 413)),
        other_answers=other,
        wrong=sorted(set(load.wrong)),
        faults=len(load.wrong),
        least_share=min(share),
        largest_share=max(share),
        greedy_share=share[0],
        shares=share,
        longest_wait_s=max((seconds for seconds, _, user in load.waits if user), default=0.0),
        longest_wait=max((served for _, served, user in load.waits if user), default=0),
        start_mb=points[len(points) // 3][1],
        end_mb=points[-1][1],
        peak_mb=max(mb for _, mb in points),
        growth_mb=growth(points) if len({n for n, _ in points[len(points) // 3 :]}) > 1 else 0.0,
    )


def main() -> None:
    args = parse_args()
    configs = [ROOT / MODELS[name] for name in args.models]
    with serving(configs, "--max-mb", "2", "--timing-ms", "0") as server:
        load = Load(server, [config.stem for config in configs], args.users, args.seed)
        fields = fields_of(load, load.run(60 * args.minutes), args.minutes)
    print(
        f"{fields['requests']} requests of {args.users} users: {fields['status_200']} results, {fields['refused']} "
        f"broken uploads refused, {fields['status_503']} told to retry, {fields['faults']} wrong {fields['wrong']}; "
        f"shares {fields['least_share']:.3f} to {fields['largest_share']:.3f} (greedy {fields['greedy_share']:.3f}), "
        f"longest wait {fields['longest_wait_s']:.0f} s, {fields['start_mb']:.0f} to {fields['end_mb']:.0f} MB"
    )
    write_rows(args.json, [row(kind="web", what=f"web page: {', '.join(args.models)}", **fields)])
    if load.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
