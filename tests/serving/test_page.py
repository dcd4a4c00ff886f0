"""The page at /app, in a real Chromium: no driver and no websocket between, its protocol over a pipe."""

import base64
import csv
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from mien.emotions import EMOTIONS
from mien.inference import drawing
from mien.serving.access import SCRIPTS
from mien.serving.site import PAGE

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-dev-shm-usage", "--remote-debugging-pipe", "--hide-scrollbars",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip

# Chromium reads commands from descriptor 3 and answers on 4.
MOVE = "import os,sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"


class Browser:
    """One page of one Chromium; `problems` are what its console and its network complained of."""

    def __init__(self, chromium: str, profile: Path, *flags: str) -> None:
        (child_reads, commands), (answers, child_writes) = os.pipe(), os.pipe()
        chrome = [chromium, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOVE, str(child_reads), str(child_writes), *chrome],
            pass_fds=(child_reads, child_writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(child_reads)
        os.close(child_writes)
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._number, self._rest, self._session = 0, b"", ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        self._answers.close()
        self.process.terminate()
        self.process.wait(30)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of Chrome's protocol, and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            result = self._next()
            if result.get("id") == self._number:
                if "error" in result:
                    raise AssertionError(f"{method}: {result['error']}")
                return dict(result["result"])
            self._note(result)

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && document.title")

    def evaluate(self, expression: str) -> Any:
        """A JavaScript expression's value."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"]["exception"].get("description", result["exceptionDetails"]))
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"!!({expression})"):
            if time.monotonic() > end:
                raise AssertionError(f"{expression} did not come true; problems: {self.problems}")
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, code: int) -> None:
        """Press a key of the keyboard."""
        text = {"text": "\r"} if key == "Enter" else {}  # what follows a link or sends a form is the character
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def choose(self, selector: str, *files: Path) -> None:
        """Put files into an input, as its dialogue does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def look(self, width: int, height: int, *, dark: bool = False, still: bool = False) -> None:
        """Set the window's size, the colour scheme, and whether motion is unwanted."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [("prefers-color-scheme", "dark" if dark else "light")]
        features += [("prefers-reduced-motion", "reduce")] if still else []
        self.call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers.fileno(), 1 << 20)
            if not piece:
                raise AssertionError("Chromium has gone.")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))

    def _note(self, result: dict[str, Any]) -> None:
        what = result.get("params", {})
        if result["method"] == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif result["method"] == "Runtime.exceptionThrown":
            self.problems.append(what["exceptionDetails"]["exception"].get("description", ""))
        elif result["method"] == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.problems.append(what["entry"]["text"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, portrait: bytes, encode: Callable[..., bytes]) -> Path:
    """A folder with a portrait, a photo without a face, a file that is none, and what the webcam sees."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "portrait.jpg").write_bytes(portrait)
    (folder / "=blank.png").write_bytes(encode(Image.new("L", (300, 200)), "PNG"))
    (folder / "notes.jpg").write_text("this is no photo")
    face = Image.open(io.BytesIO(portrait)).resize((410, 480))
    frames = []
    for shift in (100, 110, 120, 110):
        frame = Image.new("RGB", (640, 480), "gray")
        frame.paste(face, (shift, 0))
        frames.append(encode(frame, "JPEG"))
    (folder / "webcam.mjpeg").write_bytes(b"".join(frames))
    return folder


@pytest.fixture(scope="module")
def chromium(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium whose webcam sees the portrait."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium: install `chromium`")
    profile = tmp_path_factory.mktemp("profile")
    with Browser(found, profile, f"--use-file-for-fake-video-capture={pictures / 'webcam.mjpeg'}") as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser, served: Any) -> Browser:
    """The page, freshly opened on a desktop."""
    chromium.requests.clear()
    chromium.problems.clear()
    chromium.look(1280, 860)
    chromium.open(f"{served.url}/app")
    chromium.wait("document.querySelector('#model').innerText.includes('version 3')")
    return chromium


def test_the_page_starts_empty_and_loads_nothing_from_elsewhere(page: Browser, served: Any) -> None:
    assert "Drop photos here" in page.text("#photos")
    assert page.evaluate("document.querySelector('#toolbar').hidden")
    assert "trained on drawn faces" in page.text("#synthetic")
    assert "under 40%" in page.text("#about")
    assert "not a feeling" in page.text("#about")
    assert all(url.startswith((served.url, "data:", "blob:")) for url in page.requests)
    assert page.problems == []


def test_the_page_allows_no_foreign_code_and_is_not_sent_twice(served: Any) -> None:
    answer = httpx.get(f"{served.url}/app")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    again = httpx.get(f"{served.url}/app", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.get(f"{served.url}/").headers["location"] == "app"
    assert "googletagmanager" not in httpx.get(served.url, follow_redirects=True).text


def test_every_module_of_the_page_is_served(served: Any) -> None:
    files = sorted(path.name for path in PAGE.glob("*.js"))
    assert len(files) > 1
    assert [httpx.get(f"{served.url}/app/{name}").status_code for name in files] == [200] * len(files)
    assert [f"/app/{name}" for name in files] == sorted(SCRIPTS)


def test_a_photo_is_answered_with_boxes_bars_and_words(page: Browser, pictures: Path) -> None:
    page.choose("#files", pictures / "portrait.jpg")
    page.wait("document.querySelector('.result .box')")
    names = page.evaluate("[...document.querySelectorAll('.bars li > span:first-child')].map(e => e.innerText)")
    assert names == list(EMOTIONS)
    shares = page.evaluate("[...document.querySelectorAll('.share')].map(e => parseInt(e.innerText))")
    assert sum(shares) == pytest.approx(100, abs=4)
    widths = page.evaluate("[...document.querySelectorAll('.fill')].map(e => parseFloat(e.style.width))")
    assert widths == pytest.approx(shares, abs=0.51)
    inside = page.evaluate("""(() => { const b = document.querySelector('.box').getBoundingClientRect();
        const i = document.querySelector('.frame img').getBoundingClientRect();
        return b.left > i.left && b.right < i.right && b.top > i.top && b.bottom < i.bottom
            && b.width > i.width / 3; })()""")
    assert inside
    page.wait("document.querySelector('#say').innerText.startsWith('portrait.jpg: 1 face')")
    assert page.problems == []


def test_a_photo_without_a_face_and_a_file_that_is_none_are_told_apart(page: Browser, pictures: Path) -> None:
    page.choose("#files", pictures / "notes.jpg", pictures / "=blank.png")
    page.wait("document.querySelector('.failed') && document.querySelector('.none')")
    assert "No face was found" in page.text(".none")
    assert "no image that can be read" in page.text(".failed")
    assert "Try again" in page.text(".failed")


def test_a_service_that_has_gone_is_said_and_can_be_asked_again(page: Browser, pictures: Path) -> None:
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    page.choose("#files", pictures / "portrait.jpg")
    page.wait("document.querySelector('.failed')")
    assert "The service does not answer" in page.text(".failed")
    page.call("Network.emulateNetworkConditions", offline=False, **offline)
    page.evaluate("document.querySelector('.failed button').click()")
    page.wait("document.querySelector('.face')")


def test_a_busy_service_is_asked_again_by_itself(page: Browser, pictures: Path) -> None:
    page.evaluate("""(() => { const ask = window.fetch; let refused = false; window.fetch = (...given) => {
        if (refused) return ask(...given);
        refused = true;
        const busy = {status: 429, headers: {'retry-after': '0'}};
        return Promise.resolve(new Response('{"error": "busy"}', busy)); }; })()""")
    page.choose("#files", pictures / "portrait.jpg")
    page.wait("document.querySelector('.face')")


@pytest.fixture(scope="module")
def fifty(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fifty files: two are no photos, three show no face, the rest shows one each."""
    folder = tmp_path_factory.mktemp("fifty")
    kinds = {3: "notes.jpg", 30: "notes.jpg", 7: "=blank.png", 8: "=blank.png", 49: "=blank.png"}
    small = folder / "small.jpg"
    Image.open(pictures / "portrait.jpg").resize((256, 300)).save(small)
    files = []
    for number in range(50):
        source = pictures / kinds[number] if number in kinds else small
        files.append(Path(shutil.copy(source, folder / f"{number:02d}{source.suffix}")))
    return files


def test_fifty_photos_at_once_are_answered_in_batches_with_their_progress(page: Browser, fifty: list[Path]) -> None:
    page.evaluate("""(() => { window.told = []; new MutationObserver(() =>
        window.told.push(document.querySelector('#say').innerText)).observe(document.querySelector('#say'),
        {childList: true}); })()""")
    page.choose("#files", *fifty)
    page.wait("!document.querySelector('#progress').hidden")
    assert page.evaluate("document.querySelector('#progress-bar').max") == 50
    assert page.text("#progress-text").endswith("of 50 photos")
    page.wait("document.querySelectorAll('.face, .none, .failed').length === 50", 120)
    page.wait("document.querySelector('#say').innerText.startsWith('Done. 50 photos, 45 faces.')")
    assert page.evaluate("document.querySelector('#progress').hidden")
    asked = [url.rsplit("/", 1)[1] for url in page.requests if url.rsplit("/", 1)[1].startswith("predict")]
    assert "predict_batch" in asked
    assert len(asked) < 30
    told = page.evaluate("window.told")
    assert any(text.endswith("of 50 photos answered.") for text in told)
    assert len(told) <= len(asked) + 1  # a screen reader is not flooded with fifty sentences
    assert page.problems == []


def test_what_got_no_answer_is_listed_by_name_and_leads_to_its_place(page: Browser, fifty: list[Path]) -> None:
    page.choose("#files", *fifty)
    page.wait("document.querySelectorAll('.face, .none, .failed').length === 50", 120)
    assert page.text("#problems-title") == "2 could not be read, 3 without a face that was found:"
    lines = page.text("#problems-list").splitlines()
    assert [line[:6] for line in lines] == ["03.jpg", "30.jpg", "07.png", "08.png", "49.png"]
    assert "no image that can be read" in lines[0]
    assert lines[2] == "07.png: no face was found."
    page.evaluate("document.querySelector('#problems-list a').focus()")
    page.press("Enter", 13)
    page.wait("document.activeElement.matches('.result')")
    assert "03.jpg" in page.text(".result:focus")
    page.evaluate("document.querySelector('#clear').click()")
    assert page.evaluate("document.querySelector('#problems').hidden")


def test_photos_that_got_no_answer_are_asked_about_again_together(page: Browser, pictures: Path) -> None:
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    page.choose("#files", pictures / "portrait.jpg", pictures / "=blank.png")
    page.wait("document.querySelectorAll('.failed').length === 2")
    assert page.text("#problems-title") == "2 got no answer:"
    page.call("Network.emulateNetworkConditions", offline=False, **offline)
    page.evaluate("document.querySelector('#again').click()")
    page.wait("document.querySelectorAll('.face, .none').length === 2")
    assert page.text("#problems-title") == "1 without a face that was found:"
    assert page.evaluate("document.querySelector('#again').hidden")


def test_a_service_with_a_key_asks_for_it_and_then_answers(
    chromium: Browser, pictures: Path, serve: Callable[..., Any], champion_folder: Path, tmp_path: Path
) -> None:
    with serve(tmp_path, MIEN_API_KEY="right-key", MIEN_CHAMPION=str(champion_folder)) as server:
        server.wait()
        chromium.open(f"{server.url}/app")
        chromium.wait("!document.querySelector('#key-form').hidden")
        chromium.choose("#files", pictures / "portrait.jpg")
        chromium.wait("document.querySelector('.failed')")
        for key, text in {"wrong-key": "does not know this key", "right-key": ""}.items():
            chromium.evaluate("document.querySelector('#key').focus()")
            chromium.call("Input.insertText", text=key)
            chromium.press("Enter", 13)
            chromium.wait(f"document.querySelector('#key-text').innerText.includes('{text}')")
        chromium.wait("document.querySelector('.face')")
        assert chromium.evaluate("document.querySelector('#key-form').hidden")
        assert "version 3" in chromium.text("#model")


def test_saliency_is_shown_with_what_it_means(page: Browser, pictures: Path) -> None:
    page.choose("#files", pictures / "portrait.jpg")
    page.wait("document.querySelector('.face')")
    page.evaluate("document.querySelector('.face button').click()")
    page.wait("document.querySelector('.explained')", 60)
    assert "proves no cause" in page.text(".explained")
    colours = page.evaluate("""(() => { const c = document.querySelector('.explained canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - d[i + 2]) > 40; return n / (d.length / 4); })()""")
    assert colours > 0.02


def test_json_and_csv_are_downloaded(page: Browser, pictures: Path, tmp_path: Path) -> None:
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.choose("#files", pictures / "notes.jpg", pictures / "=blank.png", pictures / "portrait.jpg")
    page.wait("document.querySelectorAll('.face, .none, .failed').length === 3")
    for name in ("json", "csv"):
        page.evaluate(f"document.querySelector('#{name}').click()")
        _until(tmp_path / f"mien.{name}")
    result = json.loads((tmp_path / "mien.json").read_text())
    assert [photo["photo"] for photo in result] == ["notes.jpg", "=blank.png", "portrait.jpg"]
    assert "error" in result[0]
    assert result[2]["model"]["version"] == "3"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "mien.csv").read_text())))
    assert [row["photo"] for row in rows] == [
        "notes.jpg",
        "'=blank.png",
        "portrait.jpg",
    ]  # no formula for a spreadsheet
    assert rows[1]["status"] == "no_face"
    assert rows[2]["emotion"] == result[2]["faces"][0]["emotion"]
    assert sum(float(rows[2][emotion]) for emotion in EMOTIONS) == pytest.approx(1, abs=1e-4)


def _until(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)


def test_the_webcam_is_answered_frame_by_frame_and_stops(page: Browser) -> None:
    page.evaluate("document.querySelector('#tab-webcam').click()")
    page.evaluate("document.querySelector('#camera').click()")
    page.wait(
        "document.querySelector('#live-boxes .box') && parseFloat(document.querySelector('#fps').innerText) > 0", 60
    )
    page.wait("performance.getEntriesByType('resource').filter(e => e.name.endsWith('/predict')).length > 4", 60)
    assert page.text("#latency").endswith(" ms")
    assert page.evaluate("document.querySelectorAll('#live-faces .bars li').length") == 7
    page.evaluate("document.querySelector('#camera').click()")
    frames = page.evaluate("""performance.getEntriesByType('resource').filter(e => e.name.endsWith('/predict'))
        .map(e => [e.startTime, e.responseEnd])""")
    assert all(start >= end for (_, end), (start, _) in itertools.pairwise(frames))  # never two at a time
    assert page.evaluate("document.querySelector('#video').srcObject") is None
    assert "Start" in page.text("#camera")


def test_a_webcam_that_is_not_allowed_is_explained(page: Browser) -> None:
    page.evaluate("document.querySelector('#tab-webcam').click()")
    for name, result in {"NotAllowedError": "not allowed", "NotFoundError": "No webcam was found"}.items():
        page.evaluate(f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{name}'); }}")
        page.evaluate("document.querySelector('#camera').click()")
        page.wait(f"document.querySelector('#stage-text').innerText.includes('{result}')")


def test_the_page_is_used_with_the_keyboard_alone(page: Browser, pictures: Path) -> None:
    page.choose("#files", pictures / "portrait.jpg")
    page.wait("document.querySelector('.face')")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        page.press("Tab", 9)
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert reached[0] == "Skip to the content"
    wanted = ["tab-photos", "files", "json", "csv", "clear", "×", "Why?"]
    assert [name for name in reached if name in wanted] == wanted
    page.evaluate("document.querySelector('#tab-photos').focus()")
    page.press("ArrowRight", 39)
    assert page.evaluate("document.activeElement.id") == "tab-webcam"
    assert not page.evaluate("document.querySelector('#webcam').hidden")


def test_everything_that_can_be_used_has_a_name_for_screen_readers(page: Browser, pictures: Path) -> None:
    page.choose("#files", pictures / "portrait.jpg", pictures / "notes.jpg")
    page.wait("document.querySelectorAll('.face, .failed').length === 2")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "tab", "link", "image", "textbox", "tablist", "list", "Video"}
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert {"button", "tab", "image", "heading"} <= {role for role, _ in roles}
    assert [role for role, name in roles if role in named - {"list"} and not name] == []
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone_and_is_legible_in_the_dark(page: Browser, pictures: Path, dark: bool) -> None:
    page.look(360, 740, dark=dark, still=True)
    page.choose("#files", pictures / "portrait.jpg", pictures / "notes.jpg")
    page.wait("document.querySelectorAll('.face, .failed').length === 2")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    small = page.evaluate("""[...document.querySelectorAll('button, label.button')].filter(e => e.offsetParent)
        .filter(e => e.offsetHeight < 36 || e.offsetWidth < 36).map(e => e.innerText)""")
    assert small == []  # large enough for a thumb
    for selector in (
        "body",
        ".quiet",
        ".bars li",
        ".failed",
        ".button.primary",
        "[aria-selected=true]",
        ".notice",
        "#problems-title",
        "#problems-list a",
    ):
        assert page.evaluate(CONTRAST.replace("SELECTOR", json.dumps(selector))) >= 4.5, selector
    assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"


CONTRAST = """(() => {
    let element = document.querySelector(SELECTOR);
    const ink = getComputedStyle(element).color;
    let paper = 'rgba(0, 0, 0, 0)';
    for (; element && /, 0\\)$/.test(paper); element = element.parentElement)
        paper = getComputedStyle(element).backgroundColor;
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05); })()"""
"""The contrast between an element's text and what it stands on, as WCAG defines it."""


def test_the_page_and_the_drawn_photos_share_their_colours(served: Any) -> None:
    style = httpx.get(f"{served.url}/app/app.css").text
    for emotion, colour in drawing.COLOURS.items():
        assert f"--{emotion}: #{bytes(colour).hex()};" in style
        assert style.count(f"--{emotion}:") == 1
