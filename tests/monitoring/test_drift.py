"""mien drift: the same kind of faces is no drift, another light, lens or mood is."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from mien.cli.main import main
from mien.config.params import Params
from mien.data.sources.sample import face
from mien.files import write_json
from mien.inference.calibration import apply_temperature
from mien.monitoring import drift, drift_windows, histograms
from mien.monitoring import report as drift_report
from mien.monitoring.drift import Finding
from mien.monitoring.drift_windows import PROFILE_FILE, Window
from mien.monitoring.histograms import Counts

Faces = NDArray[np.uint8]
NOON = 1_790_078_400
ROOT = Path(__file__).parents[2]


def draw(count: int, seed: int) -> Faces:
    return np.stack([face(number % 7, np.random.default_rng([seed, number])) for number in range(count)])


def answer(emotions: NDArray[np.int64], seed: int, sharpness: float = 6.0) -> NDArray[np.float64]:
    """Probabilities that name these emotions, more or less surely."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 1, (len(emotions), 7))
    scores[np.arange(len(emotions)), emotions] += sharpness
    return np.asarray(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))


def counts(faces: Faces, seed: int = 0, emotions: NDArray[np.int64] | None = None, **options: Any) -> Counts:
    named = np.arange(len(faces)) % 7 if emotions is None else emotions
    return histograms.of(faces, answer(named, seed, **options))


@pytest.fixture(scope="module")
def training() -> Counts:
    return counts(draw(1500, 99), 99)


@pytest.fixture(scope="module")
def served() -> Faces:
    return draw(600, 1)


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.property: finding.level for finding in findings}


def moved(reference: Counts, now: Counts, params: Params) -> set[str]:
    return {name for name, level in levels(drift.compare(reference, now, params.drift)).items() if level == "drift"}


@pytest.mark.parametrize("seed", range(5))
def test_more_faces_of_the_same_kind_are_no_drift(training: Counts, params: Params, seed: int) -> None:
    findings = drift.compare(training, counts(draw(520, seed), seed), params.drift)
    assert drift.worst(findings) == "none", levels(findings)


def test_darker_faces_drift_in_brightness(training: Counts, served: Faces, params: Params) -> None:
    assert "brightness" in moved(training, counts((served * 0.6).astype(np.uint8)), params)


def test_blurred_faces_drift_in_sharpness_and_not_in_brightness(
    training: Counts, served: Faces, params: Params
) -> None:
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), 1.5) for one in served]).astype(np.uint8)
    found = moved(training, counts(blurred), params)
    assert "sharpness" in found
    assert "brightness" not in found


def test_one_emotion_alone_drifts_in_emotion_and_not_in_looks(training: Counts, params: Params) -> None:
    happy = np.full(600, 3)
    assert moved(training, counts(draw(600, 5), emotions=happy), params) == {"emotion"}


def test_unsure_answers_drift_in_confidence(training: Counts, served: Faces, params: Params) -> None:
    assert moved(training, counts(served, sharpness=3.5), params) == {"confidence"}


def test_a_change_in_few_faces_says_too_few(training: Counts, served: Faces, params: Params) -> None:
    few = counts((served[: params.drift.faces - 1] * 0.5).astype(np.uint8))
    findings = drift.compare(training, few, params.drift)
    assert set(levels(findings).values()) == {"too_few", "unknown"}
    assert drift.worst(findings) == "too_few"


def test_a_large_change_that_chance_explains_is_none(params: Params) -> None:
    few = dataclasses.replace(params.drift, faces=5)
    before, after = histograms.empty(), histograms.empty()
    before["emotion"], after["emotion"] = [3, 3, 0, 0, 0, 0, 0], [1, 2, 3, 0, 0, 0, 0]
    (finding,) = [one for one in drift.compare(before, after, few) if one.property == "emotion"]
    assert finding.psi is not None
    assert finding.psi > few.psi
    assert finding.level == "none"


def test_faces_that_are_no_longer_found_drift(training: Counts, params: Params) -> None:
    before, after = histograms.empty(), histograms.empty()
    before["photos"], after["photos"] = [970, 30], [780, 220]
    assert moved(before, after, params) == {"photos"}
    assert levels(drift.compare(training, after, params.drift))["photos"] == "unknown", "training has no photos"


def test_a_stability_index_is_that_of_the_textbook() -> None:
    before, after = np.array([5000, 5000]), np.array([7000, 3000])
    assert drift.psi(before, after) == pytest.approx(0.2 * np.log(1.4) + 0.2 * np.log(5 / 3), abs=1e-3)
    assert drift.psi(before, before) == 0
    assert drift.psi(before, after) == pytest.approx(drift.psi(after, before))
    assert drift.chance(before, before) == 1
    assert drift.chance(before, after) < 1e-50


def test_groups_hold_a_tenth_each_and_lose_nobody() -> None:
    before = np.array([0, 0, 1, 50, 200, 400, 200, 100, 48, 1, 0, 0])
    now = np.array([3, 0, 1, 50, 200, 400, 200, 100, 48, 1, 0, 7])
    grouped, after = drift.grouped(before, now)
    assert grouped.min() >= 49
    assert (grouped.sum(), after.sum()) == (before.sum(), now.sum())
    assert drift.median("contrast", np.array([0, 10] + [0] * 30)) == pytest.approx(6)


@pytest.fixture
def service(tmp_path: Path, training: Counts, params: Params, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A champion with its profile in models/champion, and a way to leave windows as a service of it does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    place = tmp_path / "models" / "champion"
    data = {"name": "drawn faces", "digest": "d1ce"}
    write_json(place / PROFILE_FILE, {"format": histograms.FORMAT, "version": "7", "data": data, "counts": training})
    for name in ("model.onnx", "champion.json"):
        (place / name).touch()

    def leave(name: str, faces: Faces, model: str = "7", start: int = NOON, **options: Any) -> Path:
        for hour, some in enumerate(np.array_split(faces, 3)):
            seen = counts(some, hour, **options)
            seen["photos"] = [len(some) - 20, 20]
            drift_windows.append(tmp_path / name, Window(start + 3600 * hour, 60, model, seen))
        return tmp_path / name

    return leave


def ask(*arguments: Any) -> tuple[int, str, dict[str, Any]]:
    done = CliRunner().invoke(main, ["drift", *map(str, arguments)])
    report = Path("reports/drift/drift.json")
    return done.exit_code, done.output, json.loads(report.read_text()) if report.exists() else {}


def test_the_command_ends_with_3_on_drift_and_says_what_starts_the_retraining(
    service: Callable[..., Path], served: Faces
) -> None:
    code, said, report = ask(service("well", served))
    assert (code, report["drift"], report["level"]) == (0, False, "none"), said
    assert "event_type=drift" not in said
    code, said, report = ask(service("dusk", (served * 0.6).astype(np.uint8)))
    assert (code, report["drift"]) == (3, True)
    assert said.rstrip().endswith("gh api repos/{owner}/{repo}/dispatches -f event_type=drift")
    assert "the training profile of version 7 (drawn faces)" in said
    page = Path("reports/drift/drift.html").read_text()
    assert "Drift: brightness" in page
    assert "http" not in page.replace("http-equiv", ""), "the page needs nothing from elsewhere"


def test_a_baseline_of_ones_own_takes_the_place_of_the_profile(service: Callable[..., Path], served: Faces) -> None:
    dark = (served * 0.6).astype(np.uint8)
    baseline, now = service("first week", dark), service("now", (draw(600, 2) * 0.6).astype(np.uint8))
    assert ask(now)[0] == 3
    code, said, report = ask(now, "--baseline", baseline)
    assert code == 0, said
    assert {each["level"] for each in report["properties"] if each["property"] != "face_size"} == {"none"}


def test_windows_of_several_folders_and_processes_are_put_together(service: Callable[..., Path], served: Faces) -> None:
    first, second = service("a", served[:300]), service("b", served[300:])
    assert ask(first)[2]["level"] == "too_few"
    code, _, report = ask(first, second)
    assert code == 0
    seen = {each["property"]: each["n"] for each in report["properties"]}
    assert seen["brightness"] == 600
    assert report["level"] == "none"
    assert sum(period["level"] != "too_few" for period in report["periods"]) == 1


def test_answers_of_another_version_count_for_the_looks_alone(service: Callable[..., Path], served: Faces) -> None:
    service("mixed", served, model="6", start=NOON - 86400, emotions=np.full(200, 3))
    code, said, report = ask(service("mixed", served))
    assert code == 0, said
    seen = {each["property"]: each["n"] for each in report["properties"]}
    assert (seen["brightness"], seen["emotion"]) == (1200, 600)
    assert "version 6 answered too" in said


def test_only_the_last_hours_are_compared_where_asked(service: Callable[..., Path], served: Faces) -> None:
    service("long", served, start=NOON - 86400)
    folder = service("long", (served * 0.6).astype(np.uint8))
    code, _, report = ask(folder, "--last", 3)
    assert (code, report["from"]) == (3, "2026-09-22T12:00:00+00:00")
    assert report["properties"][0]["n"] == 600


def test_without_windows_or_profile_the_command_ends_with_1(service: Callable[..., Path], served: Faces) -> None:
    folder = service("well", served)
    Path("models/champion", PROFILE_FILE).unlink()
    code, said, _ = ask(folder)
    assert code == 1
    assert "--baseline FOLDER" in said
    Path("empty").mkdir()
    code, said, report = ask("empty")
    assert (code, report) == (1, {})
    assert "MIEN_DRIFT_FOLDER" in said


def test_a_property_reads_as_a_sentence(training: Counts, served: Faces, params: Params) -> None:
    now = counts((served * 0.6).astype(np.uint8))
    now["photos"] = [900, 100]
    said = {
        one.property: drift_report.sentence(one, training, now) for one in drift.compare(training, now, params.drift)
    }
    assert said["brightness"].startswith("median ")
    assert ", was " in said["brightness"]
    assert said["photos"] == "no face 10.0%"
    assert said["face_size"] == ""


@pytest.mark.real_data
def test_real_test_faces_are_no_drift_against_the_shipped_profile_until_the_light_goes(
    fer2013_folder: Path, params: Params
) -> None:
    import pyarrow.parquet as pq

    from mien.data.quality.statistics import decode
    from mien.inference.champion import SHIPPED
    from mien.inference.predictor import Mien

    table = pq.read_table(fer2013_folder / "fer2013.parquet", filters=[("usage", "=", "PrivateTest")])
    faces = np.stack([decode(data, "row") for data in table["image"].to_pylist()])
    champion = Mien(SHIPPED, threads=None)

    def seen(some: Faces) -> Counts:
        answers = champion.runtime.predict(some.astype(np.float32)[..., None])
        return histograms.of(some, apply_temperature(answers, champion.card.temperature))

    training_profile = drift_windows.read_profile(SHIPPED)["counts"]
    assert drift.worst(drift.compare(training_profile, seen(faces), params.drift)) == "none"
    assert drift.worst(drift.compare(training_profile, seen(faces[1000:1600]), params.drift)) == "none"
    assert "brightness" in moved(training_profile, seen((faces * 0.8).astype(np.uint8)), params)
    blurred = np.stack([cv2.GaussianBlur(face_, (0, 0), 1.0) for face_ in faces]).astype(np.uint8)
    assert "sharpness" in moved(training_profile, seen(blurred), params)
