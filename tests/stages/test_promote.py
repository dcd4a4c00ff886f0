"""promote: the judgement on the same faces, and the registry, log and cards that it leaves behind."""

import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.config.params import Params
from mien.data import dataset
from mien.data.dataset import Split
from mien.emotions import SPLITS
from mien.errors import MienError
from mien.evaluation import corruptions, served
from mien.files import write_json
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta
from mien.monitoring import drift_windows
from mien.registry import promotion_log, shipped, tracking
from mien.registry.challenger import METRICS, register
from mien.registry.promotion_report import decision
from mien.registry.tracking import versions
from mien.stages import promote
from mien.stages.promote import Inputs

GOOD, POOR = range(7), (1, 0, 2, 3, 4, 5, 6)
"""Which emotion each brightness is taken for: all right, or angry and disgust mixed up."""
NOISE = (0, 1, 2, 3, 4, 6, 5)
"""Surprise and neutral mixed up, which the faces themselves almost are."""


def faces(each: int = 40) -> Split:
    """Faces whose brightness tells the emotion, but for the last two, whose labels are a little better than chance."""
    labels = np.repeat(np.arange(7), [*[each] * 5, 2 * each, 2 * each])
    shown = labels.copy()
    for label, other in ((5, 6), (6, 5)):
        shown[np.flatnonzero(labels == label)[: each - 1]] = other
    images = np.broadcast_to((30 * shown + 20)[:, None, None, None], (len(labels), 48, 48, 1)).astype(np.uint8)
    return Split(images, labels, np.zeros(len(labels), bool), np.arange(len(labels)))


@dataclass
class Desk:
    """A folder with prepared faces and trained models, where promotions happen."""

    root: Path
    params: Params
    write_model: Any

    def prepare(self, each: int = 40, *, validated: bool = True) -> str:
        """Leave prepared data as `prepare` and `validate` do; answers their digest."""
        split = faces(each)
        for name in SPLITS:
            dataset.write_split(self.root / "prepared", name, split)
        digest = dataset.digest([split])
        counts = dict.fromkeys(SPLITS, dataset.counts(split))
        info = {"name": "brightness", "digest": digest, "counts": counts, "excluded": {}, "flagged": {}}
        write_json(self.root / "prepared" / "dataset.json", info)
        (self.root / "validated.json").unlink(missing_ok=True)
        if validated:
            write_json(self.root / "validated.json", {"name": "brightness", "digest": digest})
        return digest

    def train(self, order: Sequence[int] = GOOD, family: str = "cnn", sharpness: float = 0.01) -> str:
        """Leave a model, its report and its MLflow run, as `train` does, and the evaluation of it."""
        onnx = self.write_model(self.root / "models" / family / "model.onnx", order, sharpness=sharpness)
        sha256 = hashlib.sha256(onnx.read_bytes()).hexdigest()
        with tracking.run("mien", family) as run:
            run.log_model(onnx, {})
        self.evaluate(family, sha256, run.id)
        return run.id

    def serve(self, tta: Tta, temperature: float) -> None:
        """Let the evaluation be of a winner that is served in that way."""
        path = self.root / "evaluation.json"
        write_json(path, json.loads(path.read_text()) | {"served": tta.as_report() | {"temperature": temperature}})

    def evaluate(self, family: str, sha256: str, run_id: str) -> None:
        """Leave the reports of a model, their numbers made up."""
        digest = dataset.read_info(self.root / "prepared")["digest"]
        scores = dict.fromkeys(METRICS, 0.5) | {"n": 100}
        entry = {"validation": scores, "run_id": run_id, "onnx_sha256": sha256, "seconds": 60.0}
        content = {
            "winner": family,
            "families": {family: entry},
            "temperature": 1.25,
            "served": NO_TTA.as_report() | {"temperature": 1.25},
            "test": scores | {"without_leaks": scores},
            "data": {"name": "brightness", "digest": digest, "synthetic": False},
        }
        write_json(self.root / "evaluation.json", content)
        training = {
            "parameters": 21,
            "seconds": 60.0,
            "epochs": 3,
            "precision": "float32",
            "hardware": {"processor": "abacus", "cores": 2, "gpus": [], "backend": "jax"},
            "data": {"rows": 400},
            "onnx": {"max_probability_difference": 1e-6, "sha256": sha256},
        }
        write_json(self.root / "train" / f"{family}.json", training)
        (self.root / "plots").mkdir(exist_ok=True)
        (self.root / "plots" / "confusion.csv").write_text("actual,predicted\n")

    def promote(self, **limits: Any) -> dict[str, Any]:
        """Run the stage on the evaluation that is there; its report."""
        gate = dataclasses.replace(self.params.promote, **limits)
        promote.run(
            self.inputs(),
            self.root / "promotion.json",
            self.root / "cards",
            dataclasses.replace(self.params, promote=gate),
        )
        return self.report()

    def judge(self) -> dict[str, Any]:
        """Ask what the stage would decide; its report."""
        promote.judge(self.inputs(), self.root / "judgement.json", self.params)
        report: dict[str, Any] = json.loads((self.root / "judgement.json").read_text())
        return report

    def inputs(self) -> Inputs:
        """What the stage reads."""
        root = self.root
        return Inputs(
            evaluation=root / "evaluation.json",
            models=root / "models",
            plots=root / "plots",
            prepared=root / "prepared",
            validated=root / "validated.json",
            validation=root / "validation.json",
            train_reports=root / "train",
        )

    def report(self) -> dict[str, Any]:
        """promotion.json."""
        report: dict[str, Any] = json.loads((self.root / "promotion.json").read_text())
        return report


@pytest.fixture
def desk(store: Path, write_model: Any, params: Params) -> Desk:
    """An empty registry, prepared faces, and limits that these models keep on any machine."""
    gate = dataclasses.replace(params.promote, model="mien", floor=0.35, ece=1.0, milliseconds=1e6, shipped=False)
    gate = dataclasses.replace(gate, lineage=("data.digest", "run_id"))
    made = Desk(store, dataclasses.replace(params, promote=gate), write_model)
    made.prepare()
    return made


def broken(report: dict[str, Any]) -> list[str]:
    """The rules that refused."""
    return [finding["rule"] for finding in report["rules"] if not finding["passed"]]


def test_the_shipped_model_is_the_champion_of_an_empty_registry(desk: Desk) -> None:
    desk.train(POOR)
    report = desk.promote(shipped=True)
    assert report["promoted"], "it knows brightness, the shipped one faces"
    assert "beats the champion student (shipped with the package, macro-F1 0.0" in report["reason"]
    assert report["scores"]["champion"]["version"] == "shipped"
    assert report["scores"]["champion_when_promoted"] == {"macro_f1": 0.659142, "same_data": False}
    log = promotion_log.read("mien")
    assert log.succession == ("shipped", "1")
    assert versions.aliases("mien") == {"champion": "1"}


def test_a_model_that_does_not_beat_the_shipped_one_is_refused_though_the_registry_is_empty(
    desk: Desk, write_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "ONNX", write_model(desk.root / "better.onnx", GOOD))
    desk.train(POOR)
    report = desk.promote(shipped=True)
    assert not report["promoted"]
    assert "better" in broken(report)
    assert report["champion"]["version"] == "shipped"
    assert promotion_log.read("mien").entries[-1].champion == "shipped"
    assert "champion" not in versions.aliases("mien")
    assert decision(report).startswith("Refused by better, ")
    assert desk.judge()["champion"]["version"] == "1", "promote.shipped is false there"


def test_the_shipped_file_itself_has_nobody_to_beat(
    desk: Desk, write_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "ONNX", write_model(desk.root / "same.onnx", GOOD))
    desk.train(GOOD)
    report = desk.promote(shipped=True)
    assert report["promoted"]
    assert "is the first champion" in report["reason"]
    assert decision(report).startswith("Promoted: cnn")
    assert decision(desk.promote()).startswith("Unchanged: cnn")


def test_a_rollback_of_the_first_champion_restores_the_shipped_one(desk: Desk) -> None:
    desk.train()
    desk.promote(shipped=True)
    assert promotion_log.rollback("mien", "Users complained").version == "shipped"
    log = promotion_log.read("mien")
    assert (log.champion, log.previous, set(log.withdrawn)) == ("shipped", None, {"1"})
    assert versions.aliases("mien") == {}
    desk.train(GOOD, "vgg16", 0.02)
    assert desk.promote(shipped=True)["promoted"]
    assert promotion_log.read("mien").succession == ("shipped", "2")


def test_the_first_winner_becomes_champion_with_its_lineage(desk: Desk) -> None:
    run_id = desk.train()
    report = desk.promote()
    assert (report["promoted"], report["version"], report["model"], report["run_id"]) == (True, "1", "mien", run_id)
    assert report["champion"] == report["candidate"]
    assert report["candidate"].keys() == {"version", "family", "macro_f1", "digest"}
    assert report["candidate"]["macro_f1"] == pytest.approx(0.861, abs=0.001), "measured, not copied"
    assert report["comparison"] is None
    found = versions.champion("mien")
    assert found is not None
    assert (found.version, found.run_id) == ("1", run_id)
    assert found.metrics["validation_macro_f1"] == 0.5
    digest = dataset.read_info(desk.root / "prepared")["digest"]
    expected = {"temperature": "1.25", "data.digest": digest, "data.name": "brightness", "synthetic": "false"}
    assert expected.items() <= found.tags.items()
    downloaded = versions.download("mien", "1", desk.root / "fetched")
    assert hashlib.sha256(downloaded.read_bytes()).hexdigest() == found.tags["onnx_sha256"]
    cards = {path.name: path.read_bytes() for path in (desk.root / "cards").iterdir()}
    pages = {"model_card.md", "model_card.html", "data_card.md", "data_card.html"}
    assert cards.keys() == pages | {"training_profile.json"}
    assert {path.name: path.read_bytes() for path in (desk.root / "fetched" / "cards").iterdir()} == cards


def test_the_version_carries_how_its_faces_look_and_what_it_says_of_validation(desk: Desk) -> None:
    desk.train()
    desk.promote()
    profile = drift_windows.read_profile(desk.root / "cards")
    training, validation = (dataset.read_split(desk.root / "prepared", name) for name in ("train", "validation"))
    assert profile["version"] == "1"
    assert profile["data"]["digest"] == dataset.read_info(desk.root / "prepared")["digest"]
    gray = np.bincount((training.images[:, 0, 0, 0] // 8).astype(int), minlength=32)
    assert profile["counts"]["brightness"] == gray.tolist()
    shown = (validation.images[:, 0, 0, 0].astype(int) - 20) // 30
    assert profile["counts"]["emotion"] == np.bincount(shown, minlength=7).tolist(), "the model's answers, not labels"
    assert sum(profile["counts"]["photos"]) == sum(profile["counts"]["face_size"]) == 0


def test_a_winner_is_judged_and_kept_in_the_way_it_is_served(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Counting(Runtime):
        def predict(self, faces: Any) -> Any:
            seen.append(len(faces))
            return super().predict(faces)

    for module in (served, promote):
        monkeypatch.setattr(module, "Runtime", Counting)
    desk.train()
    desk.promote()
    once = sum(seen)
    seen.clear()
    desk.serve(Tta("multi_scale", (44, 52)), 1.5)
    desk.promote()
    assert sum(seen) == 4 * once, "every face, also those that are timed, was looked at four times"
    found = versions.champion("mien")
    assert found is not None
    assert [found.tags[key] for key in ("tta", "crops", "temperature")] == ["multi_scale", "44,52", "1.5"]


def test_a_better_winner_takes_over_and_the_log_holds_both_scores(desk: Desk) -> None:
    desk.train(POOR)
    desk.promote()
    desk.train(GOOD, "vgg16")
    report = desk.promote()
    assert report["promoted"], report["reason"]
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}
    entry = promotion_log.read("mien").entries[-1]
    assert (entry.kind, entry.version, entry.champion, entry.number) == ("promotion", "2", "1", report["log_entry"])
    assert entry.facts["scores"]["challenger"]["macro_f1"] == report["candidate"]["macro_f1"]
    assert entry.facts["scores"]["champion"]["macro_f1"] < entry.facts["scores"]["challenger"]["macro_f1"]
    assert report["comparison"]["interval"][0] > 0
    assert report["comparison"]["only_challenger"] == 80
    assert report["comparison"]["p_value"] < 1e-6
    assert entry.why == report["reason"]


def test_the_log_holds_the_scores_with_damaged_faces_where_they_count(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # These faces differ in brightness alone, which the cameras' damage takes away: copies here are as the faces are.
    monkeypatch.setattr(corruptions, "by_cameras", lambda images, _: images)
    desk.params = dataclasses.replace(desk.params, evaluate=dataclasses.replace(desk.params.evaluate, damaged=True))
    desk.train(POOR)
    assert "with_damaged" in desk.promote()["scores"]["challenger"]
    desk.train(GOOD, "vgg16")
    report = desk.promote()
    assert report["promoted"]
    assert report["comparison"]["with_damaged"]
    assert "macro-F1 with damaged faces +" in report["reason"]
    assert promotion_log.read("mien").entries[-1].facts["scores"]["challenger"]["with_damaged"] == pytest.approx(
        report["scores"]["challenger"]["macro_f1"]
    )


def test_a_worse_winner_is_registered_as_challenger_and_the_champion_stays(desk: Desk) -> None:
    desk.train(GOOD)
    champion = desk.promote()["candidate"]
    desk.train(POOR, "vgg16")
    report = desk.promote()
    assert (report["promoted"], report["version"]) == (False, "2")
    assert report["champion"] == champion
    assert broken(report) == ["better", "correctness", "recall"]
    assert versions.aliases("mien") == {"champion": "1", "challenger": "2"}
    assert promotion_log.read("mien").entries[-1].kind == "refusal"
    assert "Not promoted" in (desk.root / "cards" / "model_card.md").read_text()


def test_a_judgement_says_what_promote_would_decide_and_leaves_everything_as_it_is(desk: Desk) -> None:
    desk.train(POOR)
    desk.promote()
    before = (
        desk.report(),
        promotion_log.read("mien"),
        versions.aliases("mien"),
        (desk.root / "cards").stat().st_mtime_ns,
    )
    desk.train(GOOD, "vgg16")
    result = desk.judge()
    assert (result["promoted"], result["judged_only"], result["version"]) == (True, True, "")
    assert "vgg16 (not registered, macro-F1" in result["reason"]
    after = (
        desk.report(),
        promotion_log.read("mien"),
        versions.aliases("mien"),
        (desk.root / "cards").stat().st_mtime_ns,
    )
    assert after == before
    assert len(versions.every("mien")) == 1
    report = desk.promote()
    same = ("promoted", "comparison")
    assert [report[key] for key in same] == [result[key] for key in same]
    quick = {"milliseconds": 0}
    assert report["scores"]["champion"] | quick == result["scores"]["champion"] | quick


def test_a_judgement_without_any_champion_fails_nothing(desk: Desk) -> None:
    desk.train(POOR)
    assert desk.judge()["promoted"]
    assert versions.every("mien") == []


def test_the_champion_itself_is_judged_to_be_champion_already(desk: Desk) -> None:
    desk.train()
    desk.promote()
    result = desk.judge()
    assert (result["promoted"], result["version"]) == (False, "1")
    assert "is champion already" in result["reason"]


def test_a_lead_that_is_noise_keeps_the_champion(desk: Desk) -> None:
    desk.train(NOISE)
    desk.promote()
    desk.train(GOOD, "vgg16")
    report = desk.promote()
    assert not report["promoted"]
    assert report["comparison"]["gain"] > 0
    assert broken(report) == ["better"]
    assert "ahead by no more than noise" in report["reason"]


def test_promoting_the_same_evaluation_again_registers_and_logs_nothing(desk: Desk) -> None:
    desk.train()
    first = desk.promote()
    report = desk.promote()
    assert (report["version"], report["promoted"]) == ("1", False)
    assert report["champion"]["version"] == "1"
    assert "champion already, by entry 1" in report["reason"]
    assert report["rules"] == first["rules"]
    desk.train(POOR, "vgg16")
    desk.promote()
    desk.promote()
    assert [entry.kind for entry in promotion_log.read("mien").entries] == ["promotion", "refusal"]


def test_below_the_floor_the_stage_fails_only_where_there_is_no_champion(desk: Desk) -> None:
    desk.train()
    with pytest.raises(MienError, match=r"best macro-F1 0\.86 \(cnn\), needs 0\.90"):
        desk.promote(floor=0.9)
    assert (desk.report()["promoted"], desk.report()["champion"]) == (False, None)
    assert versions.champion("mien") is None
    assert desk.promote(floor=0.8)["promoted"]
    desk.train(POOR, "vgg16")
    assert desk.promote(floor=0.9)["champion"]["family"] == "cnn"


def test_both_are_scored_anew_on_new_validation_faces(desk: Desk) -> None:
    old = desk.prepare(each=10)
    desk.train(POOR)
    desk.promote()
    new = desk.prepare(each=50)
    assert new != old
    desk.train(GOOD, "vgg16")
    report = desk.promote()
    assert report["promoted"]
    scores = report["scores"]
    assert {scores[who]["n"] for who in ("challenger", "champion")} == {450}
    assert scores["champion_when_promoted"] == {"macro_f1": 0.5, "same_data": False}
    assert scores["champion"]["macro_f1"] == pytest.approx(0.575, abs=0.001)


def test_data_that_did_not_pass_promote_nothing(desk: Desk) -> None:
    desk.prepare(each=41, validated=False)
    desk.train()
    with pytest.raises(MienError, match="did not pass validation"):
        desk.promote()
    assert broken(desk.report()) == ["validation"]
    assert versions.aliases("mien") == {"challenger": "1"}


def test_a_report_of_another_training_proves_no_parity(desk: Desk) -> None:
    desk.train()
    path = desk.root / "train" / "cnn.json"
    content = json.loads(path.read_text())
    write_json(path, content | {"onnx": {"max_probability_difference": 0.0, "sha256": "0" * 64}})
    with pytest.raises(MienError, match="Nothing shows that the exported file answers"):
        desk.promote()


def test_without_git_the_whole_lineage_is_not_known(desk: Desk) -> None:
    desk.train()
    with pytest.raises(MienError, match=r"lineage lacks git\.commit, dvc\.lock"):
        desk.promote(lineage=("git.commit", "dvc.lock", "run_id"))


def test_what_was_rolled_back_does_not_come_back_by_itself(desk: Desk) -> None:
    desk.train(POOR)
    desk.promote()
    desk.train(GOOD, "vgg16")
    desk.promote()
    promotion_log.rollback("mien", "Angry users.")
    assert versions.aliases("mien") == {"champion": "1"}
    report = desk.promote()
    assert not report["promoted"]
    assert broken(report) == ["withdrawal"]
    assert "It was taken back before: Angry users (" in report["reason"]
    assert versions.aliases("mien") == {"champion": "1", "challenger": "2"}


STEPS = [
    "versions.register",
    "tracking.attach",
    "versions.set_alias",  # challenger
    "versions.append",
    "versions.set_alias 2",  # previous
    "versions.set_alias 3",  # champion
    "versions.drop_alias",
    "versions.attach",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_after_any_step_leaves_a_champion_and_the_next_run_completes(
    desk: Desk, step: str, crash_after: Callable[[str], AbstractContextManager[None]]
) -> None:
    desk.train(POOR)
    desk.promote()
    desk.train(GOOD, "vgg16")
    with crash_after(step):
        desk.promote()
    serving = versions.champion("mien")
    assert serving is not None
    assert serving.version in {"1", "2"}
    versions.download("mien", serving.version, desk.root / "served")
    report = desk.promote()
    assert report["champion"]["version"] == report["version"] == "2"
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}
    assert [(entry.kind, entry.version) for entry in promotion_log.read("mien").entries] == [
        ("promotion", "1"),
        ("promotion", "2"),
    ]
    cards = versions.download("mien", "2", desk.root / "fetched").parent / "cards"
    assert (cards / "model_card.md").read_bytes() == (desk.root / "cards" / "model_card.md").read_bytes()
    assert "Champion" in (cards / "model_card.md").read_text()


def test_a_champion_that_changes_during_the_judgement_is_the_one_to_beat(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.train(POOR)
    desk.promote()
    desk.train(GOOD, "rival")
    rival = register(
        json.loads((desk.root / "evaluation.json").read_text()),
        desk.inputs().models,
        desk.inputs().train_reports,
        desk.inputs().plots,
        "mien",
    )
    desk.train(GOOD, "vgg16", sharpness=0.02)
    real, rivals = promotion_log.append, [promotion_log.Entry("promotion", rival.version, "1", 1, "It was faster.")]

    def overtaken(name: str, entry: promotion_log.Entry) -> promotion_log.Entry:
        if rivals:
            real(name, rivals.pop())
        return real(name, entry)

    monkeypatch.setattr(promotion_log, "append", overtaken)
    report = desk.promote()
    assert not report["promoted"]
    assert report["champion"]["version"] == rival.version
    assert broken(report) == ["better"]
    assert [(entry.version, entry.kind, entry.void) for entry in promotion_log.read("mien").entries] == [
        ("1", "promotion", False),
        (rival.version, "promotion", False),
        (report["version"], "promotion", True),
        (report["version"], "refusal", False),
    ]
    assert versions.aliases("mien")["champion"] == rival.version


PIPELINE = """
import pickle, sys
from pathlib import Path
from mien.stages import promote
job = Path(sys.argv[1])
inputs, params = pickle.loads(job.read_bytes())
promote.run(inputs, job.with_suffix(".json"), job.with_suffix(".cards"), params)
"""


def test_two_pipelines_at_once_leave_one_champion(desk: Desk) -> None:
    desk.train(POOR)
    desk.promote()
    jobs = []
    for family, sharpness in (("vgg16", 0.01), ("resnet50", 0.02)):
        desk.train(GOOD, family, sharpness)
        evaluation = (desk.root / "evaluation.json").rename(desk.root / f"evaluation_{family}.json")
        job = desk.root / family
        job.write_bytes(pickle.dumps((dataclasses.replace(desk.inputs(), evaluation=evaluation), desk.params)))
        command = [sys.executable, "-c", PIPELINE, str(job)]
        jobs.append(subprocess.Popen(command, cwd=desk.root, stderr=subprocess.PIPE, text=True))
    for running in jobs:
        _, result = running.communicate(timeout=280)
        assert running.returncode == 0, result[-2000:]
    reports = [json.loads((desk.root / f"{family}.json").read_text()) for family in ("vgg16", "resnet50")]
    assert sorted(report["promoted"] for report in reports) == [False, True]
    log = promotion_log.read("mien")
    assert len(log.succession) == 2, "equal models: whoever is first stays"
    assert versions.aliases("mien")["champion"] == log.champion
    assert versions.aliases("mien")["previous"] == "1"


def test_a_model_trained_elsewhere_gets_a_run_that_stands_in_once(desk: Desk) -> None:
    onnx = desk.write_model(desk.root / "models" / "cnn" / "model.onnx")
    desk.evaluate("cnn", hashlib.sha256(onnx.read_bytes()).hexdigest(), "0" * 32)
    first = desk.promote()
    assert (first["promoted"], first["version"]) == (True, "1")
    again = desk.promote()
    assert (again["version"], again["run_id"]) == ("1", first["run_id"])


def test_a_model_that_changed_after_its_evaluation_is_refused(desk: Desk) -> None:
    desk.train()
    desk.promote()
    desk.write_model(desk.root / "models" / "cnn" / "model.onnx", sharpness=0.5)
    with pytest.raises(MienError, match=r"model\.onnx is not the file that was evaluated"):
        desk.promote()


def test_an_evaluation_of_other_data_is_refused(desk: Desk) -> None:
    desk.train()
    desk.prepare(each=30)
    with pytest.raises(MienError, match=r"evaluation\.json is not of the data in .*dvc repro evaluate"):
        desk.promote()


def test_without_an_evaluation_the_message_says_how_to_make_one(desk: Desk) -> None:
    with pytest.raises(MienError, match=r"evaluation\.json is missing.*dvc repro evaluate"):
        desk.promote()
