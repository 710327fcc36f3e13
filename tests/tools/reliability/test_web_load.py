"""The web page under a few users for a few seconds, broken uploads among their images."""

import os
import random
import re
import signal
import time
from collections import Counter

import web_load
from growth import MODELS
from scripts import Tool
from serving import ROOT, Server, upload


def test_a_few_users_get_their_share_and_no_wrong_answer(tmp_path):
    config = ROOT / MODELS["classifier"]
    tool = Tool("tools/web_demo", "--port", 0, "--max-mb", 2, "--timing-ms", 0, "--models", config, cwd=tmp_path)
    try:
        while not (address := re.search(r"Open http://([\d.]+):(\d+)", tool.said())):
            assert tool.process.exitcode is None, tool.said()
            time.sleep(0.1)
        load = web_load.Load(Server(tool.process.pid, address[1], int(address[2])), [config.stem], 4, 0)
        found = web_load.fields_of(load, load.run(4), 4 / 60)
        os.kill(tool.process.pid, signal.SIGINT)
        assert "Traceback" not in tool.wait(60).stderr
    finally:
        tool.kill()
    assert found["wrong"] == [] and found["status_500"] == 0 and not set(found["other_answers"]) - {"hung up"}
    assert found["requests"] >= found["status_200"] + found["refused"] > 0
    assert 0 <= found["least_share"] <= found["largest_share"] <= 1 and found["peak_mb"] >= found["end_mb"] > 0


def test_every_mistake_is_made():
    numbers, image = random.Random(0), upload(128, 130)
    made = [web_load.break_upload(image, numbers) for _ in range(300)]
    names = Counter(name for name, *_ in made)
    assert names.keys() == {*web_load.BROKEN_UPLOADS, "cut short", "damaged"}
    assert all(500 not in right and body != image or query for _, body, query, right in made)
