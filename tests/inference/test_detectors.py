"""mien.inference.detectors and yunet: every detector keeps the contract, and YuNet answers alike on both libraries."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.errors import MienError
from mien.inference import detector_file, detectors, photos, yunet
from mien.inference.detectors import Haar, YuNet, YuNetOnOpenVINO


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor the cache has YuNet's file."""
    monkeypatch.delenv(detector_file.YUNET_VARIABLE, raising=False)
    monkeypatch.setenv(detector_file.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=["haar", "yunet on OpenCV", "yunet on OpenVINO"])
def finder(request: pytest.FixtureRequest) -> detectors.Detector:
    """Each detector in turn."""
    if request.param == "haar":
        return Haar()
    model: Path = request.getfixturevalue("yunet_file")
    return YuNet(model) if "OpenCV" in request.param else YuNetOnOpenVINO(model, threads=1)


def test_every_detector_finds_the_largest_face_first(finder: detectors.Detector, portrait: bytes) -> None:
    photo = photos.decode(portrait)
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    scene = np.full((600, 1000, 3), 128, np.uint8)
    scene[:300, :256], scene[:, 400:912] = small, photo
    large, other = finder.detect(scene)
    assert large.box[0] > 400 > other.box[0]
    assert 1.5 < large.box[2] / other.box[2] < 2.5
    assert (large.score is None) == (large.landmarks is None) == (finder.name == "haar")


@pytest.mark.parametrize("shape", [(16, 16), (31, 640), (640, 17), (64, 64), (700, 900)])
def test_every_detector_takes_any_size(finder: detectors.Detector, shape: tuple[int, int]) -> None:
    assert finder.detect(np.zeros((*shape, 3), np.uint8)) == []


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.5, 0.33, 0.2])
def test_yunet_finds_the_same_on_opencv_and_openvino(scale: float, yunet_file: Path, portrait: bytes) -> None:
    pixels = np.asarray(cv2.resize(photos.decode(portrait), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    scene = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    slow, fast = YuNet(yunet_file).detect(scene), YuNetOnOpenVINO(yunet_file, threads=1).detect(scene)
    assert len(slow) == len(fast) >= 2
    pairs = zip(*(sorted(found, key=lambda face: float(face.box[0])) for found in (slow, fast)), strict=True)
    for one, other in pairs:
        # bf16 keeps 8 bits of a number, so there a box may move by a pixel: with AMX by 1.03, of 92.
        np.testing.assert_allclose(one.box, other.box, atol=1.1)
        assert one.landmarks is not None
        assert other.landmarks is not None
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1.0)
        assert one.score == pytest.approx(other.score, abs=0.02)


def test_a_cell_of_a_level_is_decoded_to_its_place() -> None:
    outputs = [np.zeros((1, 16 // (4**level), n), np.float32) for n in (1, 1, 4, 10) for level in range(3)]
    outputs[1][0, 3] = outputs[4][0, 3] = 0.9  # the second level is two cells wide: cell 3 is column 1, row 1
    outputs[7][0, 3] = [0.5, 0.25, np.log(2), np.log(4)]
    outputs[10][0, 3] = np.arange(10) / 10
    (row,) = yunet.decode(outputs, columns=4)
    np.testing.assert_allclose(row[:4], [24 - 16, 20 - 32, 32, 64], atol=1e-4)
    np.testing.assert_allclose(row[4:6], [16, 17.6], atol=1e-4)
    assert row[14] == pytest.approx(0.9)


def test_of_boxes_that_overlap_the_best_stays() -> None:
    rows = np.zeros((4, 15))
    rows[:, :4] = [[0, 0, 10, 10], [1, 1, 10, 10], [7, 1, 10, 10], [100, 0, 10, 10]]
    rows[:, 14] = [0.7, 0.9, 0.8, 0.65]
    assert yunet.suppress(rows)[:, 14].tolist() == [0.9, 0.8, 0.65]
    assert yunet.suppress(rows[:0]).shape == (0, 15)


def test_auto_takes_yunet_only_where_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert detectors.detector("auto", tmp_path).name == "haar"
    (tmp_path / detector_file.YUNET_FILE).write_bytes(b"no model")
    with pytest.raises(MienError, match="no YuNet model"):
        detectors.detector("auto", tmp_path)
    assert detectors.detector("haar", tmp_path).name == "haar"
    monkeypatch.setenv(detector_file.YUNET_VARIABLE, str(tmp_path / "elsewhere.onnx"))
    with pytest.raises(MienError, match=r"elsewhere.onnx is missing.*MIEN_YUNET"):
        detectors.detector("auto")


def test_yunet_without_a_file_says_how_to_fetch_it() -> None:
    with pytest.raises(MienError, match="mien fetch detector"):
        detectors.detector("yunet")


def test_without_openvino_yunet_runs_on_opencv(yunet_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(detector_file.YUNET_VARIABLE, str(yunet_file))
    assert isinstance(detectors.detector("auto"), YuNetOnOpenVINO)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert isinstance(detectors.detector("auto"), YuNet)


@pytest.mark.parametrize("kind", [YuNet, YuNetOnOpenVINO])
def test_another_network_is_no_yunet(small_onnx: Path, kind: Any) -> None:
    with pytest.raises(MienError, match="no YuNet model"):
        kind(small_onnx)


def test_unknown_detectors_are_refused() -> None:
    with pytest.raises(MienError, match="'dlib': expected auto, haar or yunet"):
        detectors.detector("dlib")


def test_a_file_is_fetched_once_and_then_found(tmp_path: Path) -> None:
    (tmp_path / "given.onnx").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert detector_file.yunet_file() is None
    target = detector_file.fetch(str(tmp_path / "given.onnx"), digest.upper())
    assert target.read_bytes() == b"weights"
    assert detector_file.yunet_file() == target
    assert detector_file.yunet_file(tmp_path) == target


def test_a_file_with_another_digest_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "given.onnx").write_bytes(b"weights")
    with pytest.raises(MienError, match=rf"SHA-256 {hashlib.sha256(b'weights').hexdigest()}, expected ebafce4e"):
        detector_file.fetch(str(tmp_path / "given.onnx"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("source", "message"), [("gone.onnx", "Cannot read gone.onnx"), ("http://127.0.0.1:9/yunet", "Mend the network")]
)
def test_what_cannot_be_had_is_said_in_one_message(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MienError, match=message):
        detector_file.fetch(source)
    assert not (tmp_path / "cache").exists()


def test_the_pinned_digest_is_that_of_the_file_used_in_tests(yunet_file: Path) -> None:
    assert hashlib.sha256(yunet_file.read_bytes()).hexdigest() == detector_file.SHA256


def test_a_photo_does_not_show_through_the_next_smaller_one(yunet_file: Path, portrait: bytes) -> None:
    finder = detectors.YuNetOnOpenVINO(yunet_file, threads=1)
    page = np.full((640, 640, 3), 128, np.uint8)
    page[490:, 512:] = cv2.resize(photos.decode(portrait), (128, 150), interpolation=cv2.INTER_AREA)
    for smaller in (page[:485], page[:, :485]):  # on a canvas of the same size
        assert len(finder.detect(page)) == 1
        assert finder.detect(smaller) == []


def test_canvases_hold_any_photo_and_are_few() -> None:
    shapes = [(height, width) for height in range(1, 641, 7) for width in range(1, 641, 7)]
    sizes = [yunet.size(np.zeros((*shape, 3), np.uint8)) for shape in shapes]
    assert all(size[0] >= shape[0] and size[1] >= shape[1] for shape, size in zip(shapes, sizes, strict=True))
    assert len(set(sizes)) <= 21


def test_haar_keeps_to_its_threads_and_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    haar = detectors.detector("haar", threads=1)

    class Cascade:
        def detectMultiScale2(self, *_: Any, **__: Any) -> Any:  # noqa: N802 (OpenCV's name)
            taken.append(cv2.getNumThreads())
            return (), ()

    monkeypatch.setattr(haar, "_cascade", Cascade())
    before = cv2.getNumThreads()
    assert haar.detect(np.zeros((64, 64, 3), np.uint8)) == []
    assert taken == [1]
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize(("count", "again", "expected"), [(3, 0, 1), (2, 1, 1), (2, 0, 0)])
def test_a_box_of_haar_that_few_windows_agree_on_is_looked_at_again(
    count: int, again: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cascade:
        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def detectMultiScale2(self, gray: Any, **_: Any) -> Any:  # noqa: N802
            self.shapes.append(gray.shape)
            return ([[100, 80, 40, 40]], [count]) if len(self.shapes) == 1 else ([[9, 9, 40, 40]] * again, [4] * again)

    haar, cascade = Haar(), Cascade()
    monkeypatch.setattr(haar, "_cascade", cascade)
    found = haar.detect(np.zeros((480, 640, 3), np.uint8))
    assert [face.box.tolist() for face in found] == [[160, 128, 64, 64]] * expected
    assert cascade.shapes == [(300, 400), (64, 64)][: 1 + (count == 2)]
