"""Hostile photos and requests get an answer or a refusal that is documented, never a failure."""

import functools
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from mien.errors import MienError
from mien.inference import photos
from mien.serving import openapi

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of much of what is found here

SETTINGS: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@functools.cache
def seeds() -> list[bytes]:
    """Small files of every format that is read, in the modes that each of them has."""
    photos.register_heif()
    values = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    picture = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("JPEG", picture, {"exif": exif}),
        ("JPEG", picture.convert("CMYK"), {"progressive": True}),
        ("PNG", picture.convert("P"), {"transparency": 1}),
        ("PNG", Image.fromarray(values[:, :, 0].astype(np.uint16) * 257), {}),
        ("WEBP", picture.convert("RGBA"), {}),
        ("WEBP", picture, {"save_all": True, "append_images": [picture.convert("L")]}),
        ("HEIF", picture, {}),
        ("AVIF", picture.convert("RGBA"), {}),
        ("GIF", picture, {"save_all": True, "append_images": [picture.convert("L")]}),
        ("BMP", picture.convert("L"), {}),
        ("TIFF", picture, {"compression": "tiff_lzw"}),
        ("TIFF", picture.convert("F"), {}),
        ("PPM", picture, {}),
    ]
    files = []
    for kind, image, options in kinds:
        image.save(target := io.BytesIO(), kind, **options)
        files.append(target.getvalue())
    return files


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real file with bytes changed, cut out, repeated or put in."""
    data = bytearray(draw(st.sampled_from(seeds())))
    for _ in range(draw(st.integers(1, 6))):
        # Most of what can go wrong stands at the beginning.
        start = draw(st.integers(0, min(len(data), 64)) | st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 64)))
        change = draw(st.sampled_from(["set", "cut", "repeat", "put", "end"]))
        if change == "set":
            data[start : start + 1] = draw(st.binary(min_size=1, max_size=4))
        elif change == "cut":
            del data[start:end]
        elif change == "repeat":
            data[end:end] = data[start:end]
        elif change == "put":
            data[start:start] = draw(st.binary(max_size=16))
        else:
            del data[start:]
    return bytes(data)


@given(damaged())
@settings(max_examples=200, **SETTINGS)
def test_a_damaged_file_is_decoded_or_refused(data: bytes) -> None:
    try:
        pixels = photos.decode(data)
    except MienError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)


@given(data=damaged(), path=st.sampled_from(sorted(openapi.CALLS)))
@settings(max_examples=60, **SETTINGS)
def test_a_damaged_photo_is_answered_or_refused(client: TestClient, data: bytes, path: str) -> None:
    field, _, _ = openapi.CALLS[path]
    answer = client.post(path, files={field: ("photo", data)})
    assert answer.status_code in {200, 413, 415, 422}
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"]


NAMES = st.sampled_from(["image", "images", "Image", "", "file"]) | st.text(max_size=8)
HEADERS = st.sampled_from([
    "multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=",
    "MULTIPART/FORM-DATA;boundary=b", "multipart/form-data; boundary=b; charset=hex",
    "multipart/form-data; charset=utf-16; boundary=b", "application/json", "application/x-www-form-urlencoded",
    "image/jpeg", "text/plain", "application/vnd.bentoml+pickle", "",
])  # fmt: skip
FILE_NAMES = st.sampled_from(["", '; filename="a.jpg"', '; filename="../\x00"', "; filename*=utf-8''%FF"])
EXTRAS = st.sampled_from(["", "\r\nContent-Type: text/plain; charset=zlib", "\r\nContent-Length: -1", "\r\n:"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A form with boundary b, more or less."""
    body = b""
    for _ in range(draw(st.integers(0, 4))):
        head = f'--b\r\nContent-Disposition: form-data; name="{draw(NAMES)}"{draw(FILE_NAMES)}{draw(EXTRAS)}\r\n\r\n'
        body += head.encode("utf-8", "replace") + draw(damaged() | st.binary(max_size=60)) + b"\r\n"
    return body + draw(st.sampled_from([b"--b--\r\n", b"", b"--b", b"--b\r\n", b"\r\n--b--garbage"]))


@given(
    path=st.sampled_from(sorted(openapi.CALLS)),
    kind=HEADERS,
    body=bodies() | st.binary(max_size=200),
    accept=st.sampled_from(["*/*", "image/png", "text/html", "\x7f"]),
)
@settings(max_examples=100, **SETTINGS)
def test_a_request_of_any_form_gets_a_documented_answer(
    client: TestClient, path: str, kind: str, body: bytes, accept: str
) -> None:
    headers = {"accept": accept} | ({"content-type": kind} if kind else {})
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code in {200, *openapi.STATUSES}
    if answer.status_code != 200:
        result = json.loads(answer.content)
        assert isinstance((result[0] if isinstance(result, list) else result)["error"], str)
