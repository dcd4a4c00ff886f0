"""mien.serving.service: every request gets the right status and a message that says what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from mien.emotions import EMOTIONS
from mien.serving import champion, faces
from mien.serving.requests import LIMITS, MIB
from mien.serving.service import Mien

MAX_BYTES = LIMITS.photo_mib * MIB

FORBIDDEN = ("tensorflow", "keras", "mlflow", "dvc", "optuna", "great_expectations", "pandas", "pyarrow", "matplotlib")


@pytest.fixture(scope="module")
def client(champion_folder: Path) -> Iterator[TestClient]:
    """The service in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(champion.CHAMPION_VARIABLE, str(champion_folder))
        patch.delenv(faces.YUNET_VARIABLE, raising=False)
        service: Any = Mien  # the decorator makes a Service of the class
        with TestClient(service.to_asgi()) as opened:
            yield opened


def upload(client: TestClient, data: bytes, field: str = "image") -> httpx.Response:
    """The answer to a photo in a form."""
    answer: httpx.Response = client.post("/predict", files={field: ("photo.jpg", data, "image/jpeg")})
    return answer


def test_a_photo_is_answered(client: TestClient, portrait: bytes) -> None:
    answer = upload(client, portrait)
    assert answer.status_code == 200
    (face,) = answer.json()["faces"]
    assert len(face["box"]) == 4
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert face["status"] in ("ok", "uncertain")
    assert answer.json()["model"]["version"] == "3"


def test_a_photo_without_a_face_is_answered(client: TestClient, encode: Callable[..., bytes]) -> None:
    answer = upload(client, encode(Image.new("L", (300, 200)), "PNG"))
    assert (answer.status_code, answer.json()["faces"]) == (200, [])


def noise(mode: str, size: tuple[int, int] = (90, 70)) -> Image.Image:
    """A picture of noise."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (Image.fromarray(np.zeros((70, 90), np.uint16)), "PNG", {}),
        (noise("CMYK"), "JPEG", {}),
        (noise("P"), "PNG", {"transparency": 3}),
        (noise("RGBA"), "WEBP", {}),
        (noise("L"), "GIF", {"save_all": True, "append_images": [noise("L")]}),
        (noise("RGB"), "JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
        (noise("RGB", (1, 1)), "PNG", {}),
        (noise("RGB", (30_000, 4)), "PNG", {}),
    ],
    ids=["16 bits", "CMYK", "palette", "alpha", "animated", "turned by EXIF", "one pixel", "very wide"],
)
def test_unusual_photos_are_answered(
    client: TestClient, image: Image.Image, kind: str, options: dict[str, Any], encode: Callable[..., bytes]
) -> None:
    assert upload(client, encode(image, kind, **options)).status_code == 200


def test_unusable_photos_are_refused(
    client: TestClient, portrait: bytes, encode: Callable[..., bytes], subtests: pytest.Subtests
) -> None:
    bomb = encode(Image.new("1", (9000, 9000)), "PNG")
    cases = {
        "zero bytes": (b"", 415),
        "text": (b"hello, this is no photo", 415),
        "PDF": (b"%PDF-1.7\n", 415),
        "cut off": (portrait[:4000], 422),
        "bomb": (bomb, 413),
        "too many bytes": (portrait + bytes(MAX_BYTES), 413),
    }
    for name, (data, status) in cases.items():
        with subtests.test(name):
            answer = upload(client, data)
            assert answer.status_code == status
            assert list(answer.json()) == ["error"]
            assert any(word in answer.json()["error"] for word in ("Send", "Save", "Shrink"))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"files": {"photo": ("a.jpg", b"x")}}, 422),
        ({"files": [("image", ("a.jpg", b"x")), ("image", ("b.jpg", b"x"))]}, 422),
        ({"files": {"image": (None, "http://localhost/secret")}}, 422),
        ({"data": {"image": "text"}}, 415),
        ({"json": {"image": "text"}}, 415),
        ({"content": b"", "headers": {}}, 415),
        ({"content": b"\xff\xd8\xff", "headers": {"content-type": "image/jpeg"}}, 415),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422),
        ({"files": [(f"f{i}", (f"{i}", b"x")) for i in range(99)]}, 413),
    ],
    ids=["wrong field", "two photos", "a URL", "form", "JSON", "nothing", "raw", "no boundary", "no form",
         "cut off", "too many files"],
)  # fmt: skip
def test_requests_that_are_no_form_with_one_photo_are_refused(
    client: TestClient, request_: dict[str, Any], status: int
) -> None:
    answer = client.post("/predict", **request_)
    assert answer.status_code == status
    assert "image" in json.dumps(answer.json())


def test_the_service_is_healthy_and_describes_itself(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/livez", "/readyz", "/healthz")] == [200] * 3
    assert client.get("/predict").status_code == 405
    described = client.get("/docs.json").json()["paths"]["/predict"]["post"]
    image = described["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["image"]
    assert (image["type"], image["format"]) == ("string", "binary")
    answer = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["$ref"].endswith("/Answer")


def test_pickles_are_refused(client: TestClient) -> None:
    answer = client.post("/predict", content=b"\x80\x04N.", headers={"content-type": "application/vnd.bentoml+pickle"})
    assert answer.status_code == 415


def test_photos_never_touch_the_disk(client: TestClient, portrait: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a photo was about to be written to disk")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", refuse)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    assert upload(client, portrait + bytes(3 * 2**20)).status_code == 200


def test_serving_brings_nothing_of_training_with_it_and_reports_to_nobody() -> None:
    code = (
        "import sys; from bentoml._internal.utils.analytics.usage_stats import do_not_track as quiet;"
        "before = quiet(); import mien.serving.service, mien.serving.runtime;"
        f"print(before, quiet(), [name for name in {FORBIDDEN} if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "BENTOML_DO_NOT_TRACK"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "True", "[]"]
