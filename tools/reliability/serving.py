"""Start tools/web_demo as a user does, and send it images.

Shapes: h x w pixels of an image.
"""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from PIL import Image

from mmcv_custom.data.synthetic import scene
from mmcv_custom.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
START_S, ANSWER_S = 1800, 900  # longest waits, for a machine with other work


class Server(NamedTuple):
    """A running server: its process, address and port."""

    process: int
    host: str
    port: int

    def run(self, body: bytes, model: str, address: str = "127.0.0.1", **query: object) -> tuple[int, dict]:
        """Send an image from ``address`` of this machine and return the status and the content of the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, ANSWER_S, source_address=(address, 0))
        try:
            connection.request("POST", f"/run?{urlencode(dict(model=model, **query))}", body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(content) if "json" in answer.headers["Content-Type"] else {}


@contextmanager
def serving(configs: list[Path], *options: str) -> Iterator[Server]:
    """Serve the models of ``configs`` with random weights in a process of its own, and end it afterwards.

    Raises:
        ConfigError: the server does not start, or it ends by itself.
    """
    command = [sys.executable, ROOT / "tools/web_demo", "--port", "0", *options, "--models", *configs]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryFile("w+") as said:
        env = dict(os.environ, PYTHONPATH=path, PYTHONUNBUFFERED="1")
        process = subprocess.Popen([str(part) for part in command], stdout=said, stderr=said, env=env)
        try:
            yield Server(process.pid, *_address(process, said))
            if process.poll() is not None:
                raise ConfigError(f"the web page ended with status {process.returncode}: {_text(said)[-2000:]}")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen, said) -> tuple[str, int]:
    deadline = time.monotonic() + START_S
    while not (found := re.search(r"Open http://([\d.]+):(\d+)", _text(said))):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ConfigError(f"the web page did not start: {_text(said)[-2000:]}")
        time.sleep(0.1)
    return found[1], int(found[2])


def _text(said) -> str:
    # Not ``seek``: the server writes where the offset is, which both processes share.
    return os.pread(said.fileno(), 1 << 20, 0).decode(errors="replace")


def upload(height: int, width: int, seed: int = 0) -> bytes:
    """Return a synthetic image as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(scene(height, width, seed % 8)).save(buffer, "JPEG")
    return buffer.getvalue()
