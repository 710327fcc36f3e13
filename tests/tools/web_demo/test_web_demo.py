"""The web page: its server over HTTP with good and bad uploads, and the page itself in a real browser.

Everything runs against `python tools/web_demo` as a user starts it, with tiny models and random weights.
"""

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from scripts import Tool, run_tool

from mmcv_custom.data.synthetic import scene

ROOT = Path(__file__).resolve().parents[3]
DETECTOR, CLASSIFIER = "digits_svit-adapter-nano", "deit-nano-cropr_cifar10"
DENSE, SEGMENTOR = "digits_vit-adapter-nano", "vit-nano-tome_linear_camvid-352"
CONFIGS = [
    f"configs/quickstart/{DETECTOR}.py",
    f"configs/cropr/cifar10/{CLASSIFIER}.py",
    f"configs/quickstart/{DENSE}.py",
    f"configs/segmentation/{SEGMENTOR}.py",
]
WAITING, MEGABYTES = 2, 1


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


IMAGE, SMALL = encoded(Image.fromarray(scene(96, 128))), encoded(Image.fromarray(scene(48, 64)))


class Running:
    """A running server and its folder, in which no file may be left."""

    def __init__(self, folder, process, host, port):
        self.folder, self.process, self.host, self.port = folder, process, host, port
        self.before = self.files()

    def files(self):
        return sorted(str(file) for file in self.folder.rglob("*"))

    def ask(self, method, path, body=None, **headers):
        """Return status and content of a response: JSON as objects, the rest as bytes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.headers["Cache-Control"] == "no-store" or answer.status == 400
            return answer.status, json.loads(content) if "json" in answer.headers["Content-Type"] else content
        finally:
            connection.close()

    def run(self, body=IMAGE, model=DETECTOR, **query):
        parameters = "&".join(f"{name}={value}" for name, value in dict(model=model, **query).items())
        return self.ask("POST", f"/run?{parameters}", body)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    options = ["--port", 0, "--max-mb", MEGABYTES, "--queue", WAITING, "--score-thr", 0.05]
    models = [ROOT / config for config in CONFIGS]
    env = dict(TMPDIR=folder, HOME=folder, PYTHONDONTWRITEBYTECODE=1)
    tool = Tool("tools/web_demo", *options, "--models", *models, cwd=folder, env=env)
    try:
        while not (address := re.search(r"Open http://([\d.]+):(\d+)", tool.said())):
            assert tool.process.exitcode is None, tool.said()
            time.sleep(0.1)
        yield Running(folder, tool.process, address[1], int(address[2]))
        os.kill(tool.process.pid, signal.SIGINT)
        done = tool.wait(30)
        assert done.returncode == 0 and "Traceback" not in done.stderr
    finally:
        tool.kill()


def image_of(url):
    kind, data = url.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_pruned_model_is_shown_beside_its_dense_counterpart(server):
    status, found = server.run()
    assert status == 200 and found["task"] == "detection"
    pruned, dense = found["models"]["pruned"], found["models"]["dense"]
    assert 0 < pruned["gmacs"] < dense["gmacs"] and min(pruned["ms"], dense["ms"]) > 0
    # random weights keep the config's ratios, of 192 tokens (96 x 128 becomes 192 x 256)
    kept = [block["shares"][0] for block in found["blocks"]]
    assert kept == pytest.approx([1, 1, 0.7, 0.6, 0.5, 0.4], abs=0.5 / 192 + 1e-6)
    assert found["keep"] == pytest.approx(sum(kept[2:]) / 4)  # mean over the pruned blocks
    images = [image_of(block["image"]) for block in found["blocks"]]
    assert images[0].tobytes() != images[2].tobytes() != images[5].tobytes()
    assert image_of(pruned["image"]).width >= 640 and "found" in pruned["words"]


def test_the_slider_sets_the_cost_parameter_of_the_method(server):
    little, usual, full = (server.run(SMALL, **query)[1] for query in (dict(cost_value=0.2), {}, dict(cost_value=2.5)))
    assert little["keep"] < usual["keep"] < full["keep"] == 1
    assert little["models"]["pruned"]["gmacs"] < usual["models"]["pruned"]["gmacs"]
    assert little["models"]["dense"]["gmacs"] == full["models"]["dense"]["gmacs"]
    # all tokens computed: the dense model's result
    assert full["models"]["pruned"]["words"] == full["models"]["dense"]["words"]
    less = server.run(SMALL, CLASSIFIER, cost_value=0.1)[1]
    assert (
        less["task"] == "classification" and less["keep"] < server.run(SMALL, CLASSIFIER, cost_value=1)[1]["keep"] == 1
    )
    merged = server.run(SMALL, SEGMENTOR, cost_value=8)[1]
    assert merged["task"] == "segmentation" and merged["states"][1]["used"] and merged["keep"] < 1


def test_models_are_described(server):
    status, found = server.ask("GET", "/models")
    assert status == 200 and found["megabytes"] == MEGABYTES
    models = {model["name"]: model for model in found["models"]}
    assert [*models] == [DETECTOR, CLASSIFIER, DENSE, SEGMENTOR] and "random weights" in models[DENSE]["notes"][0]
    assert models[DENSE]["slider"] is None and models[DETECTOR]["slider"]["name"] == "ratio_scale"
    assert models[DETECTOR]["slider"]["high"] == 2.5 and models[DETECTOR]["slider"]["start"] == 1
    assert models[SEGMENTOR]["slider"]["name"] == "r" and models[SEGMENTOR]["slider"]["step"] == 1
    assert [*server.run(model=DENSE)[1]["models"]] == ["dense"]
    assert Image.open(io.BytesIO(server.ask("GET", f"/example?model={DETECTOR}")[1])).width > 100
    assert b'<script src="/page.js"' in server.ask("GET", "/")[1]


def bomb(width, height):
    """Return a PNG whose header claims a size but that has no pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


UPLOADS = {
    "nothing": (b"", 400, "No image arrived"),
    "text": (b"hello" * 100, 400, "No image that can be read: give a JPEG, PNG, WebP or BMP"),
    "page": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "No image that can be read"),
    "truncated": (encoded(Image.fromarray(scene(96, 128)), "JPEG")[:2000], 400, "cut short or damaged"),
    "truncated PNG": (IMAGE[:-500], 400, "cut short or damaged"),
    "50 megapixels": (
        encoded(Image.new("1", (10000, 5000))),
        400,
        r"50.0 megapixels \(10000 x 5000\) and at most 32 are taken",
    ),
    "bomb": (bomb(100000, 100000), 400, "at most 32"),
    "thread": (encoded(Image.new("L", (3000, 17))), 400, "3000 x 17 pixels: sides must be"),
    "point": (encoded(Image.new("L", (1, 1))), 400, "1 x 1 pixels"),
    "large": (IMAGE + bytes(MEGABYTES * 10**6), 413, "larger than 1 MB"),
    "chunked": (iter([bytes(10**5)] * 30), 413, "larger than 1 MB"),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_a_bad_upload_gets_an_error_message(server, name):
    body, wanted, sentence = UPLOADS[name]
    assert wanted == 413 or len(body) < 10**5
    status, found = server.run(body)
    assert status == wanted and [*found] == ["error"] and re.search(sentence, found["error"], re.I)
    assert "\n" not in found["error"] and "Traceback" not in found["error"] and found["error"].endswith(".")


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        (dict(model="nothing"), 404, f"no model nothing: choose {DETECTOR} or"),
        (dict(cost_value=99), 400, "ratio_scale = 99 is out of range: give 0.01 to 2.5"),
        (dict(cost_value=-1), 400, "out of range"),
        (dict(cost_value="nan"), 400, "cost_value = nan is no number"),
        (dict(cost_value="much"), 400, "cost_value = much is no number"),
        (dict(model=DENSE, cost_value=1), 400, "is dense"),
    ],
    ids=str,
)
def test_a_bad_query_gets_an_error_message(server, query, status, sentence):
    found = server.run(**query)
    assert found[0] == status and sentence in found[1]["error"]


@pytest.mark.parametrize(
    "image",
    [
        encoded(Image.new("RGBA", (40, 50), (0, 0, 0, 0))),
        encoded(Image.new("L", (1900, 700)), "JPEG"),
        encoded(Image.new("P", (33, 16)), "BMP"),
        encoded(Image.fromarray(scene(64, 40)), "WEBP"),
        encoded(Image.new("I;16", (30, 20))),
    ],
    ids=["transparent", "large grey", "palette", "WebP", "16 bits"],
)
def test_common_image_formats_are_accepted(server, image):
    assert server.run(image, CLASSIFIER)[0] == 200


def test_exif_orientation_is_applied(server):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(Image.fromarray(scene(40, 120)), "JPEG", exif=exif)
    assert server.run(lying, DENSE)[1]["size"] == [40, 120]


def test_ten_concurrent_requests_get_results_or_503(server):
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda number: server.run(SMALL), range(10)))
    answers = [content for status, content in found if status == 200]
    refused = [content for status, content in found if status == 503]
    assert len(answers) + len(refused) == 10 and len(answers) >= WAITING + 1 and refused
    assert all("busy with other images: try again" in content["error"] for content in refused)
    assert len({json.dumps(answer["blocks"]) for answer in answers}) == 1
    assert server.run(SMALL)[0] == 200  # the slots are free again


def test_a_dropped_connection_frees_its_slot(server):
    for _ in range(2 * (WAITING + 1)):
        with socket.create_connection((server.host, server.port)) as connection:
            connection.sendall(b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nhalf a pic")
    deadline = time.monotonic() + 5
    while server.run(model=CLASSIFIER)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_only_this_machine_can_connect(server):
    assert server.host == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):  # every 127.x.x.x is this machine, and only one is listened on
        socket.create_connection(("127.0.0.2", server.port), timeout=5)
    assert server.ask("GET", "/", Host="evil.example")[0] == 400  # DNS rebinding
    assert server.ask("GET", "/", Host=f"localhost:{server.port}")[0] == 200


def test_nothing_of_an_upload_stays_on_disk(server):
    large = encoded(Image.fromarray(scene(400, 500)), "BMP")
    assert server.run(large, DENSE)[0] == 200 and server.run(b"nothing")[0] == 400
    assert server.files() == server.before
    held = [os.readlink(file) for file in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert not [name for name in held if "deleted" in name or str(server.folder) in name]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "99999"], "cannot listen on 127.0.0.1:99999"),
        (["--port", "0", "--models", "nowhere.py"], "config nowhere.py does not exist"),
    ],
    ids=["port", "config"],
)
def test_mistakes_at_the_start_are_reported_in_one_sentence(options, sentence):
    done = run_tool("tools/web_demo", *options)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_without_its_packages_the_page_says_how_to_install_them(tmp_path):
    missing = "No module named 'uvicorn'"
    (tmp_path / "uvicorn.py").write_text(f'raise ModuleNotFoundError("{missing}", name="uvicorn")')
    done = run_tool("tools/web_demo", env=dict(PYTHONPATH=tmp_path), code=2)
    assert done.stderr == f"web_demo: {missing}; install the extra web: pip install 'token-pruning[web]'\n"


@pytest.fixture
def browser(server):
    """Open the page in headless Chromium; messages on its console fail the test."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install -e .[dev])")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip(
            "no browser: chromium and chromedriver were not found (Debian: apt-get install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        found.get(f"http://{server.host}:{server.port}")
        yield found
        messages = [entry["message"] for entry in found.get_log("browser")]
        assert not [message for message in messages if "status of 400" not in message]
    finally:
        found.quit()


def test_on_a_phone_the_slider_is_beside_the_tokens(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    def run(script):
        return browser.execute_script(f"const $ = id => document.getElementById(id); return {script}")

    def until(condition):
        return WebDriverWait(browser, 30).until(lambda _: condition())

    size = dict(width=390, height=844, deviceScaleFactor=1, mobile=True)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    until(lambda: len(Select(browser.find_element(By.ID, "model")).options) == len(CONFIGS))
    assert run("$('classes').innerText") == "Knows 10 classes: 0, 1, 2, 3, 4, …"
    (tmp_path / "scene.png").write_bytes(IMAGE)
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "scene.png"))
    until(lambda: run("$('tokens').naturalWidth"))
    top, bottom = run("[$('tokens').getBoundingClientRect().top, $('cost').getBoundingClientRect().bottom]")
    assert 0 < bottom - top < 844 - 100
    assert run("$('foundpane').getBoundingClientRect().top > $('cost').getBoundingClientRect().bottom")
    assert run("document.documentElement.scrollWidth") == 390
    # The number of each block is below its bar.
    assert run("$('numbers').innerText.split(/\\s+/).join()") == "0,1,2,3,4,5"
    centre = "(r => (r.left + r.right) / 2)(${}.children[3].getBoundingClientRect())"
    assert abs(run(centre.format("('numbers')")) - run(centre.format("('chart')"))) < 1
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    until(lambda: run("$('controls').contains($('cost'))"))


def test_the_page_in_a_browser(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    def part(name):
        return browser.find_element(By.ID, name)

    def until(condition):
        return WebDriverWait(browser, 30).until(lambda _: condition())

    def shown(name):
        """Return the source of an image that has been drawn."""
        return browser.execute_script("const [i] = arguments; return i.complete && i.naturalWidth && i.src", part(name))

    (tmp_path / "scene.png").write_bytes(IMAGE)
    (tmp_path / "words.jpg").write_text("no image")
    until(lambda: len(Select(part("model")).options) == len(CONFIGS))
    assert "random weights" in part("notes").text and not part("error").is_displayed()

    part("file").send_keys(str(tmp_path / "scene.png"))
    found, last = until(lambda: shown("found")), until(lambda: shown("tokens"))
    assert part("blockvalue").text == "5: 40 % computed" and "GMACs" in part("costs").text

    part("block").send_keys(Keys.ARROW_LEFT)  # the image changes without a request
    assert until(lambda: shown("tokens")) != last and part("blockvalue").text == "4: 50 % computed"

    part("cost").send_keys(Keys.HOME)
    until(lambda: part("blockvalue").text.startswith("4: 0") or part("blockvalue").text.startswith("4: 1"))
    assert part("costvalue").text == "0.01" and until(lambda: shown("found")) != found

    part("file").send_keys(str(tmp_path / "words.jpg"))
    until(lambda: part("error").is_displayed())
    assert "no image that can be read" in part("error").text.lower()
    part("example").click()
    until(lambda: not part("error").is_displayed())

    Select(part("model")).select_by_value(CLASSIFIER)
    until(lambda: len(part("chart").find_elements(By.CSS_SELECTOR, "div")) == 12)
    assert part("costname").text == "keep_ratio"
    Select(part("model")).select_by_value(DENSE)
    until(lambda: "of tokens" in part("costs").text and "pruned" not in part("costs").text)
    assert not part("cost").is_displayed()

    def page():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    before = page()
    part("theme").click()
    assert page() != before
