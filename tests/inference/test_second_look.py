"""mien.inference.second_look: what may be no upright face is looked at again, and its answer is marked."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from mien.inference import faces, photos, second_look
from mien.inference.champion import Card
from mien.inference.detectors import Detection, Haar, YuNet, YuNetOnOpenVINO
from mien.inference.status import status

CARD = Card("1", 1.0, 0.4, "yunet")


class Scores:
    """A detector that finds one face in the middle, with one score after the other."""

    name, framing = YuNet.name, YuNet.framing

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def detect(self, pixels: photos.Pixels) -> list[Detection]:
        """One face of the next score; none for 0."""
        height, width = pixels.shape[:2]
        box = np.array([width / 4, height / 4, width / 2, height / 2])
        return [Detection(box, score)] if (score := self.scores.pop(0)) else []


@pytest.mark.parametrize(
    ("scores", "expected"), [((0.8, 0.0), 0.8), ((0.8, 0.79), 0.8), ((0.8, 0.81), 0.0), ((0.88,), 0.88)]
)
def test_an_unsure_face_that_scores_higher_upside_down_is_marked(scores: tuple[float, ...], expected: float) -> None:
    finder = Scores(*scores)
    (face,) = faces.find(np.zeros((200, 300, 3), np.uint8), finder, turned=False)
    assert face.score == expected
    assert finder.scores == []
    noise = np.random.default_rng(0).uniform(0, 255, (48, 48, 1)).astype(np.float32)
    sharp = faces.Face(face.box, noise, face.found_by, face.side, face.score)
    assert status(sharp, 0.9, CARD) == ("ok" if expected else "low_confidence")


def test_a_detector_without_scores_is_believed() -> None:
    seen = Detection(np.array([10, 10, 50, 50.0]))
    assert not second_look.upside_down(seen, np.zeros((99, 99, 3), np.uint8), Haar())


@pytest.mark.real_data
def test_a_face_upside_down_beside_an_upright_one_is_marked(yunet_file: Path, portrait: bytes) -> None:
    photo = photos.decode(portrait)
    small = np.asarray(cv2.resize(photo, (256, 300), interpolation=cv2.INTER_AREA), np.uint8)
    scene = np.hstack([small, np.ascontiguousarray(small[::-1, ::-1])])
    found = faces.find(scene, YuNetOnOpenVINO(yunet_file, threads=1))
    (upright,), turned = ([face for face in found if (face.box[0] < 256) == left] for left in (True, False))
    assert upright.score
    assert [face.score for face in turned] == [0.0]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["haar", "yunet"])
def test_a_tiny_picture_without_a_face_is_doubted_and_most_faces_are_not(
    name: str, yunet_file: Path, fer2013_folder: Path, gradient: NDArray[np.uint8]
) -> None:
    finder = Haar() if name == "haar" else YuNetOnOpenVINO(yunet_file, threads=1)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    for picture in (noise, gradient[:48, :48], np.full((48, 48), 90, np.uint8)):
        assert [face.score for face in faces.find(photos.from_array(picture), finder)] == [0.0]
    file = pq.ParquetFile(fer2013_folder / "fer2013.parquet")
    rows = file.read_row_group(file.num_row_groups - 1, columns=["image"])["image"][-100:].to_pylist()
    found = [faces.find(photos.decode(row), finder)[0].score for row in rows]
    assert found.count(None) >= 0.8 * len(found)
