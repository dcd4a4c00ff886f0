"""mien.serving.service: every request gets the right status and a message that says what to do."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from mien.emotions import EMOTIONS
from mien.serving import openapi, schemas
from mien.serving.limits import MIB
from mien.serving.requests import LIMITS

MAX_BYTES = LIMITS.photo_mib * MIB

FORBIDDEN = ("tensorflow", "keras", "mlflow", "dvc", "optuna", "great_expectations", "pandas", "pyarrow", "matplotlib")


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
        ({"content": b"image", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 415),
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


@pytest.mark.parametrize("kind", ["image/jpeg", "Image/PNG; q=1", "application/octet-stream"])
def test_a_photo_may_be_the_body_itself(client: TestClient, portrait: bytes, kind: str) -> None:
    for path in ("/predict", "/annotate", "/explain"):
        answer = client.post(path, content=portrait, headers={"content-type": kind})
        assert answer.status_code == 200
        assert answer.content == client.post(path, files={"image": portrait}).content


def test_a_photo_cut_off_at_its_end_is_answered_with_a_warning(client: TestClient, portrait: bytes) -> None:
    cut = portrait[:-900]
    answer = upload(client, cut).json()
    assert schemas.Answer.model_validate(answer).warning.startswith("The photo is cut off: 9")
    assert client.post("/explain", files={"image": cut}).json()["warning"] == answer["warning"]
    batch = client.post("/predict_batch", files=many(cut, portrait)).json()["photos"]
    assert [photo.get("warning") for photo in batch] == [answer["warning"], None]
    crops = client.post("/classify", files=many(cut, portrait)).json()["faces"]
    assert [crop.get("warning") for crop in crops] == [answer["warning"], None]
    assert client.post("/annotate", files={"image": cut}).status_code == 200


def test_a_body_that_is_no_photo_or_too_large_is_refused(client: TestClient, portrait: bytes) -> None:
    bodies = {b"": 415, b"text": 415, portrait[:4000]: 422, portrait + bytes(MAX_BYTES): 413}
    for body, status in bodies.items():
        answer = client.post("/predict", content=body, headers={"content-type": "image/jpeg"})
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_many_photos_need_a_form(client: TestClient, portrait: bytes) -> None:
    for path in ("/predict_batch", "/classify"):
        answer = client.post(path, content=portrait, headers={"content-type": "image/jpeg"})
        assert answer.status_code == 415
        assert "as the body" not in answer.json()["error"]


def many(*photos: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """A form's parts for several photos."""
    return [("images", (f"{i}.jpg", photo)) for i, photo in enumerate(photos)]


def test_one_bad_photo_of_a_batch_never_fails_the_rest(
    client: TestClient, portrait: bytes, encode: Callable[..., bytes]
) -> None:
    blank = encode(Image.new("L", (300, 200)), "PNG")
    answer = client.post("/predict_batch", files=many(portrait, b"text", b"", blank, portrait[:4000], portrait))
    assert answer.status_code == 200
    result = schemas.BatchAnswer.model_validate(answer.json())
    kinds = [photo.error.split()[0] if isinstance(photo, schemas.Error) else photo.status for photo in result.photos]
    assert kinds == ["ok", "The", "The", "no_face", "The", "ok"]
    alone = upload(client, portrait).json()
    assert answer.json()["photos"][0] == {"status": "ok", "faces": alone["faces"]}
    assert answer.json()["model"] == alone["model"]


def test_a_text_field_among_the_photos_of_a_batch_has_an_error_in_its_place(
    client: TestClient, portrait: bytes
) -> None:
    answer = client.post("/predict_batch", files=[*many(portrait), ("images", (None, b"text"))]).json()
    assert "faces" in answer["photos"][0]
    assert "is text, expected a file" in answer["photos"][1]["error"]
    assert client.post("/predict_batch", files=[("images", (None, b"text"))]).status_code == 422


def test_more_photos_than_a_batch_may_have_are_refused(client: TestClient) -> None:
    for count in (LIMITS.batch_photos + 1, LIMITS.batch_photos + 50):
        answer = client.post("/predict_batch", files=many(*[b"x"] * count))
        assert answer.status_code == 413
    assert client.post("/predict_batch", files={"image": b"x"}).status_code == 422


def test_pictures_of_whole_faces_are_named_without_looking_for_faces(
    client: TestClient, portrait: bytes, encode: Callable[..., bytes]
) -> None:
    head = encode(Image.open(io.BytesIO(portrait)).crop((146, 99, 377, 330)), "PNG")
    noise = encode(Image.effect_noise((200, 100), 90), "PNG")
    answer = client.post("/classify", files=many(head, b"text", noise))
    assert answer.status_code == 200
    result = schemas.CropsAnswer.model_validate(answer.json())
    first, second, third = result.faces
    assert isinstance(second, schemas.Error)
    for face in (first, third):
        assert isinstance(face, schemas.Face)
        assert face.confidence == max(face.probabilities.values())
    assert first.status != "low_confidence"
    assert third.status == "low_confidence"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "JPEG"), ("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/png, image/jpeg", "JPEG")],
)
def test_a_photo_comes_back_with_its_faces_drawn(client: TestClient, portrait: bytes, accept: str, kind: str) -> None:
    answer = client.post("/annotate", files={"image": portrait}, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    assert answer.headers["x-mien-model"] == "3"
    before, after = Image.open(io.BytesIO(portrait)), Image.open(io.BytesIO(answer.content))
    assert (after.format, after.size) == (kind, before.size)
    (face,) = upload(client, portrait).json()["faces"]
    x, y, _, height = face["box"]
    changed = np.abs(np.asarray(before, dtype=int) - np.asarray(after, dtype=int)).max(axis=2) > 60
    assert changed[y : y + height, x - 3 : x + 4].mean() > 0.1
    assert changed[-40:].mean() < 0.01


def test_an_explanation_shows_what_each_answer_depends_on(client: TestClient, portrait: bytes) -> None:
    answer = client.post("/explain", files={"image": portrait})
    assert answer.status_code == 200
    result = schemas.Explanation.model_validate(answer.json())
    (face,) = result.faces
    assert np.shape(face.saliency) == (48, 48)
    assert np.abs(face.saliency).max() == 1
    assert face.hidden["before"] == pytest.approx(face.probabilities[face.emotion], abs=1e-3)
    assert face.hidden["without_salient"] <= face.hidden["without_others"]
    assert "proves no cause" in result.note
    (alone,) = upload(client, portrait).json()["faces"]
    assert alone.items() <= answer.json()["faces"][0].items()


def test_a_photo_without_a_face_has_nothing_to_explain(client: TestClient, encode: Callable[..., bytes]) -> None:
    answer = client.post("/explain", files={"image": encode(Image.new("L", (300, 200)), "PNG")}).json()
    assert (answer["status"], answer["faces"], answer["unexplained"]) == ("no_face", [], 0)


def test_every_answer_says_which_model_it_is(client: TestClient, portrait: bytes) -> None:
    for path in ("/predict", "/explain", "/annotate"):
        for photo in (portrait, b"text"):
            answer = client.post(path, files={"image": photo})
            lineage = [answer.headers[f"x-mien-{name}"] for name in ("model", "data", "commit")]
            assert lineage == ["3", "d1ce", "c0de"]
            assert answer.headers["cache-control"] == "no-store"


def test_an_answer_says_where_its_time_went(client: TestClient, portrait: bytes) -> None:
    answer = upload(client, portrait)
    times = {
        name: float(dur) for name, dur in (part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    }
    assert list(times) == ["detection", "classification", "total"]
    assert 0 < times["classification"] < times["detection"] + times["classification"] <= times["total"] + 0.2
    explained = client.post("/explain", files={"image": portrait}).headers["server-timing"]
    assert "saliency;dur=" in explained
    assert "server-timing" not in upload(client, b"text").headers


def test_the_model_says_what_it_is_and_what_it_takes(client: TestClient) -> None:
    result = schemas.ModelInfo.model_validate(client.get("/model_info").json())
    assert (result.model.version, result.uncertain_below, result.detector.name) == ("3", 0.4, "haar")
    assert result.limits["photo_mib"] * MIB == MAX_BYTES
    assert result.emotions == EMOTIONS


@pytest.mark.parametrize("path", openapi.CALLS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_told_to_post(client: TestClient, path: str, method: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "with POST" in answer.json()["error"]
    assert f"http://localhost:3000{path}" in answer.json()["error"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_documented_path_says_which_methods_it_takes(client: TestClient, method: str) -> None:
    for path, call in client.get("/docs.json").json()["paths"].items():
        if method.lower() not in call:
            answer = client.request(method, path)
            assert (answer.status_code, list(answer.json())) == (405, ["error"]), path
            assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == {name.upper() for name in call}


def test_what_is_not_there_is_refused_in_the_same_form(client: TestClient) -> None:
    for method, path, status in [("GET", "/nothing", 404), ("POST", "/app/none.js", 404), ("POST", "/app", 405)]:
        answer = client.request(method, path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert f"{method} {path}" in answer.json()["error"]
        assert ("GET" if status == 405 else "/predict") in answer.json()["error"]


def test_the_service_is_healthy_and_describes_itself(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/livez", "/readyz", "/healthz")] == [200] * 3
    paths = client.get("/docs.json").json()["paths"]
    assert set(openapi.CALLS) | {"/model_info", "/app", "/livez", "/readyz", "/metrics"} == set(paths)
    for path, (field, _, _) in openapi.CALLS.items():
        described = paths[path]["post"]
        bodies = described["requestBody"]["content"]
        assert bodies["multipart/form-data"]["schema"]["required"] == [field]
        assert ("image/jpeg" in bodies) == (field == "image")
        assert {int(status) for status in described["responses"]} == {200, *openapi.STATUSES}


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
        "before = quiet(); import mien.serving.service, mien.inference.runtime;"
        f"print(before, quiet(), [name for name in {FORBIDDEN} if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "BENTOML_DO_NOT_TRACK"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "True", "[]"]


def test_the_log_of_a_service_with_a_champion_of_drawn_faces_says_so(served: Any) -> None:
    assert "was trained on drawn faces (synthetic sample)" in served.log.read_text()
