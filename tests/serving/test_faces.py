"""mien.serving.faces: both detectors find faces, and the crop frames them as FER-2013 does."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.errors import MienError
from mien.serving import faces, photos
from mien.serving.faces import Framing, Haar, YuNet

Gray = NDArray[np.uint8]


class Fixed:
    """A detector that always finds the same boxes."""

    name = "fixed"
    framing = Framing(1.0, 0.0, 0.0)

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.found = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        self.seen: tuple[int, ...] = ()

    def boxes(self, pixels: photos.Pixels) -> NDArray[np.float64]:
        """The boxes given."""
        self.seen = pixels.shape
        return self.found


@pytest.fixture(scope="session")
def yunet(yunet_file: Path) -> YuNet:
    """YuNet, loaded."""
    return YuNet(yunet_file)


@pytest.fixture(scope="session")
def real_faces(fer2013_folder: Path) -> list[Gray]:
    """Fifty of FER-2013's last faces, which are PrivateTest's."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(fer2013_folder / "fer2013.parquet")
    table = file.read_row_group(file.num_row_groups - 1, columns=["image"])
    images = [np.array(Image.open(io.BytesIO(data)).convert("L")) for data in table["image"][-60:].to_pylist()]
    return [image for image in images if image.std() > 10][:50]


def scenes(images: list[Gray], side: int = 144, room: int = 320) -> Iterator[tuple[photos.Pixels, Gray]]:
    """Each face, `side` pixels wide, in the middle of a larger gray photo."""
    start = (room - side) // 2
    for image in images:
        scene = np.full((room, room), image.mean(), np.uint8)
        enlarged = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        scene[start : start + side, start : start + side] = enlarged
        yield photos.from_array(scene), image


def likeness(found: faces.Face, native: Gray) -> float:
    """Correlation of a crop with the face it should reproduce."""
    return float(np.corrcoef(found.pixels.ravel(), native.ravel().astype(np.float64))[0, 1])


def test_haar_finds_the_face_of_a_photo(portrait: bytes) -> None:
    (face,) = faces.find(photos.decode(portrait), Haar())
    x, y, width, height = face.box
    assert 100 < x < 200
    assert 60 < y < 140
    assert 150 < width < 300
    assert 150 < height < 300
    assert face.pixels.shape == (48, 48, 1)
    assert face.pixels.dtype == np.float32
    assert face.found_by == "haar"
    assert 0 <= face.pixels.min() < face.pixels.max() <= 255


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_boxes_are_in_the_pixels_of_the_photo_whatever_its_size(portrait: bytes, scale: float) -> None:
    pixels = photos.decode(portrait)
    resized = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    (face,), (scaled,) = faces.find(pixels, Haar()), faces.find(resized, Haar())
    np.testing.assert_allclose(np.array(scaled.box) / scale, face.box, atol=20)


def test_large_photos_are_scaled_down_to_look_for_faces() -> None:
    finder = Fixed((32, 64, 16, 16))
    (face,) = faces.find(np.zeros((1000, 2560, 3), np.uint8), finder)
    assert finder.seen == (250, 640, 3)
    assert face.box == (128, 256, 64, 64)


def test_boxes_are_cut_at_the_edge_and_those_outside_are_dropped() -> None:
    finder = Fixed((-20, -10, 60, 60), (500, 500, 10, 10))
    assert [face.box for face in faces.find(np.zeros((100, 120, 3), np.uint8), finder)] == [(0, 0, 40, 50)]


def test_a_crop_over_the_edge_repeats_the_edge(gradient: Gray) -> None:
    inside = faces.crop(gradient, np.array([0, 0, 48, 48.0]), Framing(1, 0, 0))
    np.testing.assert_array_equal(inside[:, :, 0], gradient[:48, :48])
    over = faces.crop(gradient, np.array([-48, 0, 96, 96.0]), Framing(1, 0, 0))
    np.testing.assert_allclose(over[:, :24, 0], np.repeat(over[:, :1, 0], 24, axis=1), atol=1)


def test_the_framing_widens_and_moves_the_crop() -> None:
    gray = np.zeros((200, 200), np.uint8)
    gray[52:148, 52:148] = 200  # the frame that a box of half its size stands for
    exact = faces.crop(gray, np.array([76, 76, 48, 48.0]), Framing(0.5, 0, 0))
    assert exact.min() == 200
    moved = faces.crop(gray, np.array([76, 76, 48, 48.0]), Framing(0.5, 0.25, 0))
    assert moved[:, :11].max() == 0 < moved[:, 13:].min()


def test_a_photo_without_a_face_has_none(gradient: Gray) -> None:
    assert faces.find(photos.from_array(gradient), Haar()) == []


def test_a_tiny_picture_is_itself_the_face() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    (face,) = faces.find(photos.from_array(image), Haar())
    assert (face.box, face.found_by) == ((0, 0, 48, 48), "whole_image")
    np.testing.assert_array_equal(face.pixels[:, :, 0], image)


@pytest.mark.parametrize("shape", [(1, 1), (15, 15), (64, 17), (1, 4000), (15, 400)])
def test_specks_and_strips_hold_no_face(shape: tuple[int, int]) -> None:
    assert faces.find(np.zeros((*shape, 3), np.uint8), Haar()) == []


def test_auto_takes_yunet_only_where_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faces.YUNET_VARIABLE, raising=False)
    assert faces.detector("auto", tmp_path).name == "haar"
    (tmp_path / faces.YUNET_FILE).write_bytes(b"no model")
    with pytest.raises(MienError, match="no YuNet model"):
        faces.detector("auto", tmp_path)
    assert faces.detector("haar", tmp_path).name == "haar"
    monkeypatch.setenv(faces.YUNET_VARIABLE, str(tmp_path / "elsewhere.onnx"))
    with pytest.raises(MienError, match=r"elsewhere.onnx is missing.*MIEN_YUNET"):
        faces.detector("auto")


def test_another_network_is_no_yunet(small_onnx: Path) -> None:
    with pytest.raises(MienError, match="no YuNet model"):
        YuNet(small_onnx)


def test_unknown_detectors_are_refused() -> None:
    with pytest.raises(MienError, match="'dlib': expected auto, haar or yunet"):
        faces.detector("dlib")


@pytest.mark.real_data
def test_yunet_finds_the_face_of_a_photo(yunet: YuNet, portrait: bytes) -> None:
    (face,) = faces.find(photos.decode(portrait), yunet)
    assert face.found_by == "yunet"
    assert 100 < face.box[0] < 220


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "share", "alike"), [("yunet", 0.9, 0.55), ("haar", 0.5, 0.6)])
def test_a_face_pasted_into_a_scene_comes_back_framed_as_it_was(
    name: str, share: float, alike: float, yunet: YuNet, real_faces: list[Gray]
) -> None:
    finder = yunet if name == "yunet" else Haar()
    found = [likeness(hits[0], native) for scene, native in scenes(real_faces) if (hits := faces.find(scene, finder))]
    assert len(found) >= share * len(real_faces)
    assert np.median(found) > alike
