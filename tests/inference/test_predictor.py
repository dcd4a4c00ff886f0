"""mien.inference.predictor: a photo in any form gets the same answer."""

import dataclasses
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien import Mien
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference import champion, faces, openvino_runtime, photos
from mien.inference.champion import Card
from mien.inference.detectors import Detection, Framing
from mien.inference.parallel import AHEAD
from mien.inference.predictor import TOGETHER


@pytest.fixture(scope="module")
def predictor(champion_folder: Path) -> Mien:
    """The small champion, loaded with the detector that its card names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(faces.YUNET_VARIABLE, raising=False)
        return Mien(champion_folder, threads=1)


def test_bytes_path_text_and_pixels_get_the_same_answer(predictor: Mien, portrait: bytes, tmp_path: Path) -> None:
    path = tmp_path / "portrait.jpg"
    path.write_bytes(portrait)
    answer = predictor.predict(portrait)
    assert len(answer["faces"]) == 1
    for image in (path, str(path), photos.decode(portrait)):
        assert predictor.predict(image) == answer


def test_an_answer_holds_what_the_contract_names(predictor: Mien, portrait: bytes) -> None:
    answer = predictor.predict(portrait)
    (face,) = answer["faces"]
    assert answer["status"] == "ok"
    assert set(face) == {
        "box",
        "emotion",
        "probabilities",
        "confidence",
        "status",
        "found_by",
        "detection",
        "landmarks",
    }
    assert face["confidence"] == max(face["probabilities"].values())
    assert (face["found_by"], face["detection"], face["landmarks"]) == ("haar", None, None)
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert face["emotion"] == max(face["probabilities"], key=face["probabilities"].__getitem__)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["model"] == {
        "version": "3",
        "family": "cnn",
        "data_name": "synthetic sample",
        "data_digest": "d1ce",
        "git_commit": "c0de",
        "synthetic": True,
    }


def test_probabilities_are_those_of_the_network_at_the_cards_temperature(predictor: Mien) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    raw = predictor.runtime.predict(image[None, :, :, None].astype(np.float32))[0].astype(np.float64)
    softened = np.sqrt(raw) / np.sqrt(raw).sum()  # temperature 2 halves the logits
    answered = list(predictor.predict(image)["faces"][0]["probabilities"].values())
    np.testing.assert_allclose(answered, softened, atol=2e-6)


@pytest.mark.parametrize(("threshold", "status"), [(0.0, "ok"), (1.0, "uncertain")])
def test_an_answer_below_the_threshold_is_uncertain(
    threshold: float, status: str, champion_folder: Path, card: Card, tmp_path: Path
) -> None:
    shutil.copytree(champion_folder, tmp_path / "champion")
    undoubting = dataclasses.replace(card, uncertain_below=threshold, low_confidence_below=0.0)
    champion.write_card(tmp_path / "champion", undoubting)
    picture = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    assert Mien(tmp_path / "champion").predict(picture)["faces"][0]["status"] == status


def test_a_photo_without_a_face_is_an_answer(predictor: Mien) -> None:
    answer = predictor.predict(np.zeros((200, 300), np.uint8))
    assert answer["faces"] == []
    assert answer["status"] == "no_face"
    assert answer["model"]["version"] == "3"


def test_a_batch_answers_as_one_photo_after_another_does(predictor: Mien, portrait: bytes) -> None:
    two = np.concatenate([photos.decode(portrait)] * 2, axis=1)
    images: list[Any] = [portrait, np.zeros((200, 300), np.uint8), two]
    answers = predictor.predict_batch(iter(images))
    assert [len(answer["faces"]) for answer in answers] == [1, 0, 2]
    for image, answer in zip(images, answers, strict=True):
        alone = predictor.predict(image)
        assert [face["box"] for face in answer["faces"]] == [face["box"] for face in alone["faces"]]
        for face, same in zip(answer["faces"], alone["faces"], strict=True):
            assert face["probabilities"] == pytest.approx(same["probabilities"], abs=1e-4)
    assert predictor.predict_batch([]) == []


def test_the_faces_of_a_batch_are_classified_in_one_go(
    predictor: Mien, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    classify = predictor.runtime.predict

    def counted(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(stacked))
        return classify(stacked)

    monkeypatch.setattr(predictor.runtime, "predict", counted)
    predictor.predict_batch([portrait] * 3)
    assert calls == [3]


def test_a_bad_photo_of_a_batch_fails_alone(predictor: Mien, portrait: bytes) -> None:
    broken: list[Any] = [b"", portrait, "gone.jpg", None, np.zeros((0, 4), np.uint8), portrait[:4000], portrait]
    answers = predictor.predict_batch(broken)
    assert ["error" in answer for answer in answers] == [True, False, True, True, True, True, False]
    assert "gone.jpg" in answers[2]["error"]
    assert answers[1] == answers[6]


def test_a_list_gives_a_list_whose_faces_are_classified_in_one_go(
    predictor: Mien, portrait: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, classify = list[int](), predictor.runtime.predict

    def counted(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(stacked))
        return classify(stacked)

    monkeypatch.setattr(predictor.runtime, "predict", counted)
    path = tmp_path / "portrait.jpg"
    path.write_bytes(portrait)
    first, bad, second = predictor.predict([path, b"", portrait])
    assert calls == [2]
    assert (first.photo, first.status, second.photo) == (str(path), "ok", "")
    assert first.faces == second.faces
    assert (bad.status, bad.faces) == ("error", ())
    assert "empty" in bad.error
    assert [answer.status for answer in predictor.predict((portrait,))] == ["ok"]
    assert predictor.predict([]) == []


def test_a_file_with_small_faces_is_read_once_though_decoded_twice(
    champion_folder: Path, portrait: bytes, encode: Callable[..., bytes]
) -> None:
    data = large(portrait, encode, 2.0)
    finder = Mien(champion_folder)
    finder.detector = Fixed(20.0)
    (face,), (same,) = finder.find(io.BytesIO(data)), finder.find(data)
    assert np.array_equal(face.pixels, same.pixels)


@pytest.mark.parametrize("workers", [1, 3, None])
def test_a_stream_answers_as_one_photo_after_another_does(
    predictor: Mien, portrait: bytes, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(faces.YUNET_VARIABLE, raising=False)  # every worker's copy chooses its detector as the first did
    images: list[Any] = [portrait, np.zeros((200, 300), np.uint8), tmp_path / "gone.jpg", *[portrait] * 20]
    answers = list(predictor.stream(iter(images), workers=workers))
    assert [answer.status for answer in answers] == ["ok", "no_face", "error", *["ok"] * 20]
    assert answers[2].photo == str(tmp_path / "gone.jpg")
    expected = predictor.predict(portrait).faces[0]
    for answer in (answers[0], *answers[3:]):
        assert answer.faces[0].box == expected.box
        assert answer.faces[0].probabilities == pytest.approx(expected.probabilities, abs=1e-4)


def test_a_stream_is_lazy(predictor: Mien, portrait: bytes) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(len(taken))
            yield portrait

    answers = predictor.stream(endless(), workers=2)
    assert taken == []
    assert next(answers).status == "ok"
    assert len(taken) <= (2 * AHEAD + 1) * TOGETHER


def test_every_worker_of_a_stream_counts_for_drift(champion_folder: Path, portrait: bytes) -> None:
    counted, mien = list[int](), Mien(champion_folder, threads=1)
    mien.observe = lambda found, probabilities: counted.append(len(found))
    assert len(list(mien.stream([portrait] * 20, workers=2))) == 20
    assert sum(counted) == 20


def test_a_stream_needs_several_photos_and_a_worker(predictor: Mien) -> None:
    with pytest.raises(MienError, match="Pass a list, or call predict"):
        next(predictor.stream("photo.jpg"))
    with pytest.raises(MienError, match="workers is 0, expected at least 1"):
        next(predictor.stream([], workers=0))


def test_crops_are_faces_from_edge_to_edge(predictor: Mien, portrait: bytes, gradient: NDArray[np.uint8]) -> None:
    tiny = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    first, second, third, fourth = predictor.classify([tiny, gradient, b"no picture", portrait])
    assert first == predictor.predict(tiny)["faces"][0]
    assert (second["box"], second["found_by"], second["status"]) == ([0, 0, 120, 96], "whole_image", "blurry")
    assert list(third) == ["error"]
    assert fourth["box"] == [0, 0, 512, 600]
    assert predictor.classify([]) == []


def test_a_photo_cut_off_at_its_end_is_answered_with_a_warning(predictor: Mien, portrait: bytes) -> None:
    cut = portrait[:-900]
    answer, whole = predictor.predict(cut), predictor.predict(portrait)
    assert answer.warning.startswith("The photo is cut off: 9")
    assert answer.warning in str(answer)
    assert answer["warning"] == answer.warning
    assert "warning" not in whole.to_dict()
    np.testing.assert_allclose(answer.faces[0].box, whole.faces[0].box, atol=3)
    assert [each.warning for each in predictor.predict([cut, portrait])] == [answer.warning, ""]
    crop, other = predictor.classify([cut, portrait])
    assert crop["warning"] == answer.warning
    assert "warning" not in other
    with pytest.raises(MienError, match="damaged or cut off"):
        predictor.predict(portrait[: len(portrait) // 2])


def test_a_picture_to_classify_that_no_face_fills_is_marked(predictor: Mien, portrait: bytes) -> None:
    photo = photos.decode(portrait)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    face, other, nothing = predictor.classify([photo[99:330, 146:377], photo[300:, :], noise])
    assert face["status"] in {"ok", "uncertain"}
    assert face["detection"] is None
    assert [answer["detection"] for answer in (other, nothing)] == [0.0, 0.0]
    assert nothing["status"] == "low_confidence"


def large(portrait: bytes, encode: Callable[..., bytes], side: float) -> bytes:
    """A JPEG of 2,600 pixels with the portrait, `side` times its size, in a corner."""
    photo = Image.open(io.BytesIO(portrait)).convert("RGB")
    canvas = Image.new("RGB", (2600, 2000), "gray")
    canvas.paste(photo.resize((round(photo.width * side), round(photo.height * side))), (40, 60))
    return encode(canvas, "JPEG", quality=95)


def test_a_large_jpeg_gets_the_boxes_of_its_full_size(
    predictor: Mien, portrait: bytes, encode: Callable[..., bytes]
) -> None:
    data = large(portrait, encode, 2.0)
    (reduced,) = predictor.predict(data)["faces"]
    (whole,) = predictor.predict(photos.decode(data))["faces"]
    np.testing.assert_allclose(reduced["box"], whole["box"], atol=16)
    assert 250 < reduced["box"][0] < 420
    assert reduced["box"][2] > 350


class Fixed:
    """A detector that finds one face of `side` pixels, whatever it sees."""

    name, framing = "fixed", Framing(1.0, 0.0, 0.0)

    def __init__(self, side: float) -> None:
        self.side = side

    def detect(self, _: photos.Pixels) -> list[Detection]:
        """The face."""
        return [Detection(np.array([30.0, 40.0, self.side, self.side]))]


@pytest.mark.parametrize(("side", "from_all"), [(20.0, True), (40.0, False)])
def test_a_small_face_in_a_large_jpeg_is_cropped_from_all_its_pixels(
    side: float, from_all: bool, champion_folder: Path, portrait: bytes, encode: Callable[..., bytes]
) -> None:
    data = large(portrait, encode, 2.0)
    finder = Mien(champion_folder)
    finder.detector = Fixed(side)
    (face,), (whole,) = finder.find(data), finder.find(photos.decode(data))
    np.testing.assert_allclose(face.box, whole.box, atol=1)
    assert face.side == pytest.approx(side * 2600 / 640, abs=1)
    assert np.array_equal(face.pixels, whole.pixels) == from_all
    assert np.abs(face.pixels - whole.pixels).mean() < 3


def test_a_side_to_look_at_that_is_not_offered_is_refused(champion_folder: Path) -> None:
    with pytest.raises(MienError, match=r"detection_side is 500, expected one of \(160, 320, 640\)"):
        Mien(champion_folder, detection_side=500)


def test_after_the_warm_up_photos_of_the_usual_shapes_compile_nothing(
    champion_folder: Path, yunet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faces.YUNET_VARIABLE, str(yunet_file))
    mien = Mien(champion_folder)
    mien.warm_up()
    monkeypatch.setattr(openvino_runtime, "Network", None)
    for shape in ((3000, 4000), (600, 400), (480, 640), (427, 640)):
        assert mien.predict(np.zeros((*shape, 3), np.uint8))["status"] == "no_face"
    mien.runtime.predict(np.zeros((1, 48, 48, 1), np.float32))
    mien.runtime.predict(np.zeros((5, 48, 48, 1), np.float32))


def test_a_file_that_cannot_be_read_is_named(predictor: Mien, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    for path, message in [
        (tmp_path / "gone.jpg", "No such file"),
        (tmp_path, "directory"),
        (tmp_path / "notes.txt", "no image"),
    ]:
        with pytest.raises(MienError, match=rf"{path.name}.*{message}"):
            predictor.predict(path)


def test_a_detector_named_in_the_environment_beats_the_packed_one(
    champion_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faces.YUNET_VARIABLE, "gone.onnx")
    with pytest.raises(MienError, match=r"gone.onnx is missing"):
        Mien(champion_folder)


def test_a_drawn_face_of_the_sample_is_answered_whole(predictor: Mien, encode: Callable[..., bytes]) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    (face,) = predictor.predict(encode(Image.fromarray(drawn), "PNG"))["faces"]
    assert (face["box"], face["found_by"]) == ([0, 0, 48, 48], "whole_image")


def test_importing_mien_costs_nothing() -> None:
    code = "import sys, mien; sys.exit(any(name in sys.modules for name in ('numpy', 'cv2', 'PIL', 'openvino')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_champion_of_drawn_faces_says_so_and_one_of_real_faces_does_not(
    champion_folder: Path, brightness_champion: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Mien(brightness_champion)
    assert not caplog.records
    Mien(champion_folder)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"The champion in {champion_folder} was trained on drawn faces (synthetic sample)" in record.getMessage()
