"""mien.serving.predict: a photo in any form gets the same answer."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien import Mien
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.serving import champion, faces, photos
from mien.serving.champion import Card


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
    assert set(face) == {"box", "emotion", "probabilities", "status", "found_by"}
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
    champion.write_card(tmp_path / "champion", dataclasses.replace(card, uncertain_below=threshold))
    picture = np.full((48, 48), 90, np.uint8)
    assert Mien(tmp_path / "champion").predict(picture)["faces"][0]["status"] == status


def test_a_photo_without_a_face_is_an_answer(predictor: Mien) -> None:
    answer = predictor.predict(np.zeros((200, 300), np.uint8))
    assert answer["faces"] == []
    assert answer["model"]["version"] == "3"


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
