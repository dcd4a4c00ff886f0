"""evaluate on models that tell emotions by brightness: what wins, what is scored, what is written."""

import csv
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.config.params import Params
from mien.data import dataset
from mien.data.dataset import Split
from mien.data.sources import ferplus
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.evaluation import corruptions, model_predictions, scores
from mien.evaluation.model_predictions import ModelPredictions
from mien.evaluation.selection import select
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta
from mien.stages import evaluate

SWAPPED = (0, 1, 2, 3, 4, 6, 5)
"""Takes surprise for neutral and the other way round."""


def split(marker: int, *, wrong: int = 0, leaked: int = 0) -> Split:
    """Ten faces of each emotion's brightness, then `wrong` of random labels, then `leaked` labelled by SWAPPED."""
    random = np.random.default_rng(marker)
    bright = np.concatenate([np.repeat(np.arange(7), 10), random.integers(0, 7, wrong), np.resize([5, 6], leaked)])
    labels = bright.copy()
    labels[70 : 70 + wrong] = random.integers(0, 7, wrong)
    labels[70 + wrong :] = np.array(SWAPPED)[bright[70 + wrong :]]
    images = np.broadcast_to((30 * bright + 20)[:, None, None, None], (len(bright), 48, 48, 1)).astype(np.uint8)
    images[:, 0, 0, 0] = marker
    flags = np.arange(len(bright)) >= 70 + wrong
    return Split(images, labels.astype(np.int64), flags, np.arange(len(bright), dtype=np.int64))


@dataclass
class World:
    """A prepared data set with two trained families, `good` and `memoriser`."""

    root: Path
    params: Params

    def with_(self, **evaluation: Any) -> Params:
        """The parameters with another evaluation."""
        return dataclasses.replace(self.params, evaluate=dataclasses.replace(self.params.evaluate, **evaluation))

    def run(self, params: Params | None = None, votes: Path | None = None) -> dict[str, Any]:
        """evaluation.json as the stage writes it."""
        root = self.root
        reports = root / "reports"
        evaluate.run(
            root / "prepared",
            root / "models",
            reports / "train",
            evaluate.Outputs(
                reports / "evaluation.json", reports / "metrics.json", reports / "plots", reports / "faces"
            ),
            params or self.params,
            votes,
        )
        content: dict[str, Any] = json.loads((reports / "evaluation.json").read_text())
        return content


@pytest.fixture
def world(tmp_path: Path, write_model: Any, params: Params, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of its own to change, evaluated without drawing and without damage."""
    for drawing in ("draw", "draw_examples"):
        monkeypatch.setattr(evaluate, drawing, lambda *_, **__: None)
    made = make_world(tmp_path, write_model, params)
    return dataclasses.replace(made, params=made.with_(robustness=False))


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, write_model: Any, params: Params
) -> tuple[World, dict[str, Any]]:
    """A world evaluated once, charts and all, and its evaluation.json: to be looked at only."""
    world = make_world(tmp_path_factory.mktemp("world"), write_model, params)
    return world, world.run()


def make_world(tmp_path: Path, write_model: Any, params: Params) -> World:
    """`memoriser` is right on the leaked faces alone, and better than `good` when they count."""
    splits = {
        "train": split(1),
        "validation": split(2, wrong=40, leaked=90),
        "test": split(3, wrong=40, leaked=10),
    }
    for name, content in splits.items():
        dataset.write_split(tmp_path / "prepared", name, content)
    info = {"name": "synthetic sample", "digest": dataset.digest(splits.values())}
    (tmp_path / "prepared" / "dataset.json").write_text(json.dumps(info))
    write_model(tmp_path / "models" / "good" / "model.onnx", sharpness=0.02)
    write_model(tmp_path / "models" / "memoriser" / "model.onnx", SWAPPED, sharpness=0.02)
    history = {"loss": [2.0, 1.0], "accuracy": [0.3, 0.5], "val_loss": [2.0, 1.5], "val_accuracy": [0.2, 0.4]}
    (tmp_path / "reports" / "train").mkdir(parents=True)
    for family in ("good", "memoriser"):
        result = {"params": {"train": family}, "seed": 7, "parameters": 7, "seconds": 1.5, "run_id": f"run of {family}"}
        report = {**result, "history": history, "data": info}
        (tmp_path / "reports" / "train" / f"{family}.json").write_text(json.dumps(report))
    block = next(iter(params.families.values()))
    quick = dataclasses.replace(params.evaluate, bootstrap=20, tta="flip", ensembles={})
    families = {"memoriser": block, "good": block}
    return World(tmp_path, dataclasses.replace(params, evaluate=quick, families=families, students={}))


def test_leaked_faces_do_not_help_a_family_to_win(evaluated: tuple[World, dict[str, Any]]) -> None:
    _, content = evaluated
    scores = {family: entry["validation"] for family, entry in content["families"].items()}
    assert scores["memoriser"]["with_leaks"]["accuracy"] > scores["good"]["with_leaks"]["accuracy"]
    assert scores["memoriser"]["accuracy"] < scores["good"]["accuracy"]
    assert content["winner"] == "good"
    assert (scores["good"]["n"], scores["good"]["with_leaks"]["n"]) == (110, 200)


def test_only_the_winner_sees_the_test_split_and_only_after_it_has_won(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    names = {1: "train", 2: "validation", 3: "test"}

    class Spy(Runtime):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.family = path.parent.name

        def predict(self, faces: Any) -> Any:
            # The marker stands in the upper left corner, in a mirror image in the upper right one.
            corner = min(faces[0, 0, 0, 0], faces[0, 0, -1, 0])
            events.append((self.family, names[int(corner)]))
            return super().predict(faces)

    read_split = dataset.read_split

    def read(folder: Path, name: str) -> Split:
        events.append(("read", name))
        return read_split(folder, name)

    monkeypatch.setattr(model_predictions, "Runtime", Spy)
    monkeypatch.setattr(dataset, "read_split", read)
    world.run(world.with_(tta="none", robustness=False))
    read_test = events.index(("read", "test"))
    assert {("good", "validation"), ("memoriser", "validation")} <= set(events[:read_test])
    assert [event for event in events if event[1] == "test"] == [("read", "test"), ("good", "test")]


def test_the_temperature_calms_an_overconfident_winner(evaluated: tuple[World, dict[str, Any]]) -> None:
    _, content = evaluated
    assert content["temperature"] > 1
    test = content["test"]
    for key in ("nll", "brier", "ece"):
        assert test[key] < test["before_temperature"][key]


def test_the_temperature_does_not_depend_on_leaked_faces(world: World) -> None:
    with_leaks = world.run()["temperature"]
    clean = dataset.read_split(world.root / "prepared", "validation").without_leaks()
    dataset.write_split(world.root / "prepared", "validation", clean)
    assert world.run()["temperature"] == with_leaks


def test_every_test_number_comes_with_and_without_leaks(evaluated: tuple[World, dict[str, Any]]) -> None:
    test = evaluated[1]["test"]
    keys = {"n", "accuracy", "accuracy_ci", "macro_f1", "macro_f1_ci", "uar", "nll", "brier", "ece"}
    for block in (test, test["without_leaks"], test["tta"], test["tta"]["without_leaks"]):
        assert keys <= block.keys()
        assert block["accuracy_ci"][0] < block["accuracy"] < block["accuracy_ci"][1]
    assert (test["n"], test["without_leaks"]["n"]) == (120, 110)
    assert tuple(test["recall"]) == tuple(test["support"]) == EMOTIONS
    assert sum(test["support"].values()) == 120


def test_flip_averaging_changes_nothing_for_a_model_that_does_not_care(world: World) -> None:
    test = world.run()["test"]
    assert test["tta"]["accuracy"] == test["accuracy"]
    assert test["tta"]["nll"] == pytest.approx(test["nll"], abs=1e-3)
    assert (test["tta"]["tta"], test["tta"]["passes"]) == ("flip", 2)
    assert "tta" not in world.run(world.with_(tta="none"))["test"]


def test_crops_of_every_size_are_averaged_and_their_cost_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def validate(self: ModelPredictions, families: Any, params: Params, tta: Tta = NO_TTA) -> dict[str, Any]:
        asked.append(tta)
        return original(self, families, params, tta)

    original = ModelPredictions.score_on_validation
    monkeypatch.setattr(ModelPredictions, "score_on_validation", validate)
    content = world.run(world.with_(tta="ten_crop", crops=(30, 48)))
    tta = content["test"]["tta"]
    assert (tta["crops"], tta["passes"]) == ([30, 48], 12)
    assert [way for way in asked if way != NO_TTA] == [Tta("ten_crop", (30, 48))]
    assert tta["validation"]["n"] == content["families"][content["winner"]]["validation"]["n"]
    with pytest.raises(MienError, match=r"evaluate\.crops is empty"):
        world.run(world.with_(tta="ten_crop", crops=()))


def test_what_is_served_has_the_temperature_of_the_way_it_is_served(world: World) -> None:
    once = world.run()
    single = {"tta": "none", "crops": [48], "passes": 1, "description": "once"}
    assert once["served"] == single | {"temperature": once["temperature"]}
    package = dataclasses.replace(world.params.package, tta="multi_scale")
    wanted = dataclasses.replace(world.with_(tta="multi_scale", crops=(44, 48)), package=package)
    served = world.run(wanted)
    words, result = "4 times, at sizes of 44, 48 pixels and in the mirror", served["test"]["tta"]
    several = {"tta": "multi_scale", "crops": [44, 48], "passes": 4, "description": words}
    assert served["served"] == several | {"temperature": result["temperature"]}
    assert result["description"] == words
    assert served["temperature"] == once["temperature"], "the single pass keeps its own"


def test_sides_that_only_the_service_would_look_at_are_asked_for(world: World) -> None:
    package = dataclasses.replace(world.params.package, tta="multi_scale")
    with pytest.raises(MienError, match=r"evaluate\.crops is empty, expected the sides of the crops of multi_scale"):
        world.run(dataclasses.replace(world.with_(tta="none", crops=()), package=package))


def test_what_being_unsure_is_worth_is_told(evaluated: tuple[World, dict[str, Any]]) -> None:
    world, content = evaluated
    found = content["uncertain"]
    assert found["below"] == world.params.package.uncertain_below
    assert [point["coverage"] for point in found["curve"]] == [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert found["curve"][0]["accuracy"] == content["test"]["accuracy"]
    assert found["answered"] == round(found["coverage"] * 120)


def test_the_winner_is_scored_on_damaged_faces_that_training_never_saw(evaluated: tuple[World, dict[str, Any]]) -> None:
    content = evaluated[1]
    found = content["robustness"]
    assert found["n"] == content["test"]["without_leaks"]["n"] == 110
    assert found["clean"]["accuracy"] == content["test"]["without_leaks"]["accuracy"]
    assert len(found["corruptions"]) == 7
    dark = found["corruptions"]["darkness"]
    assert tuple(dark) == ("mild", "medium", "strong")
    assert dark["strong"]["accuracy"] < found["clean"]["accuracy"], "a model of brightness must fail in the dark"
    assert found["corruptions"]["occlusion"]["strong"]["accuracy"] == found["clean"]["accuracy"]


def test_an_ensemble_averages_its_members_and_is_told_apart_from_them(world: World) -> None:
    content = world.run(world.with_(ensembles={"both": ("good", "memoriser")}))
    assert content["winner"] == "good"
    assert content["families"].keys() == {"good", "memoriser"}
    assert content["ensembles"]["both"]["members"] == ["good", "memoriser"]
    chosen = content["ensemble"]
    assert (chosen["winner"], chosen["test"]["passes"], chosen["test"]["tta"]["passes"]) == ("both", 2, 4)
    both = ModelPredictions({name: world.root / "models" / name / "model.onnx" for name in ("good", "memoriser")})
    both.splits["test"] = dataset.read_split(world.root / "prepared", "test")
    mean = (both.probabilities(["good"], "test") + both.probabilities(["memoriser"], "test")) / 2
    assert np.allclose(both.probabilities(["good", "memoriser"], "test"), mean)
    assert "ensemble" not in world.run()


def test_trainings_that_differ_in_their_seed_alone_are_told_as_mean_and_deviation(world: World) -> None:
    def retell(family: str, **more: Any) -> None:
        path = world.root / "reports" / "train" / f"{family}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **more}))

    retell("good", params={"train": 1}, seed=7)
    retell("memoriser", params={"train": 2}, seed=8)
    assert "seeds" not in world.run(), "another recipe"
    retell("memoriser", params={"train": 1}, seed=8)
    content = world.run()
    (group,) = content["seeds"]
    assert (group["families"], group["seeds"]) == (["memoriser", "good"], [8, 7])
    values = [content["families"][family]["validation"]["accuracy"] for family in group["families"]]
    assert group["validation"]["accuracy"]["mean"] == pytest.approx(np.mean(values), abs=1e-5)
    assert group["validation"]["accuracy"]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert group["test"]["accuracy"]["values"][1] == content["test"]["accuracy"]
    assert group["test"]["without_leaks"]["accuracy"]["values"][1] == content["test"]["without_leaks"]["accuracy"]


def test_students_of_one_recipe_may_start_from_different_seeds_of_one_network() -> None:
    def student(seed: int, start: str) -> dict[str, Any]:
        return {"params": {"train": 2}, "seed": seed, "distil": {"teachers": {"a": "0a", "b": "0b"}, "start": start}}

    trained = {"a": {"params": {"train": 1}, "seed": 7}, "b": {"params": {"train": 1}, "seed": 8}}
    alike = {**trained, "student": student(7, "a"), "student_8": student(8, "b")}
    assert scores.by_recipe(alike) == [{7: "a", 8: "b"}, {7: "student", 8: "student_8"}]
    other = {**alike, "b": {"params": {"train": 3}, "seed": 8}}
    assert len(scores.by_recipe(other)) == 4


def test_the_report_says_what_was_scored(evaluated: tuple[World, dict[str, Any]]) -> None:
    world, content = evaluated
    assert content["data"] == {
        "name": "synthetic sample",
        "digest": dataset.read_info(world.root / "prepared")["digest"],
        "synthetic": True,
    }
    assert content["runtime"].keys() == {"backend", "precision"}
    entry = content["families"]["good"]
    assert (entry["run_id"], entry["parameters"], entry["seconds"]) == ("run of good", 7, 1.5)


def test_plots_are_written_for_people_and_for_dvc(evaluated: tuple[World, dict[str, Any]]) -> None:
    world, _ = evaluated
    plots = world.root / "reports" / "plots"
    names = (
        "confusion_matrix",
        "reliability",
        "learning_curves",
        "families",
        "coverage",
        "robustness",
    )
    for path in (*(plots / f"{name}.png" for name in names), plots.with_name("faces") / "example_errors.png"):
        with Image.open(path) as image:
            image.verify()
    with (plots / "confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert rows[0] == {"actual": "angry", "predicted": "angry"}
    with (plots / "robustness.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 7 * 4
    with (plots / "coverage.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["coverage"]) == 1
    with (plots / "reliability.csv").open() as file:
        assert len(list(csv.DictReader(file))) == world.params.evaluate.ece_bins
    assert (plots / "curves" / "memoriser.csv").read_text().splitlines() == [
        "epoch,loss,accuracy,val_loss,val_accuracy",
        "1,2.0,0.3,2.0,0.2",
        "2,1.0,0.5,1.5,0.4",
    ]
    report = (plots / "classification_report.txt").read_text()
    assert all(emotion in report for emotion in EMOTIONS)


def test_voters_give_a_second_opinion_only_where_their_file_is(world: World) -> None:
    test = dataset.read_split(world.root / "prepared", "test")
    origins = pa.table({"origin": [f"fer2013.csv:{n}" for n in range(1, len(test) + 1)]})
    pq.write_table(origins, world.root / "prepared" / "statistics.parquet")
    path = world.root / "ferplus.csv"
    assert "ferplus" not in world.run(votes=path)
    ours = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    rows = [",".join(ferplus.COLUMNS)]
    for number, label in enumerate(test.labels):
        chosen = "unknown" if number < 7 else ours[label]  # the first seven are angry
        rows.append(
            f"PrivateTest,fer{number}.png," + ",".join("9" if name == chosen else "0" for name in ferplus.ANSWERS)
        )
    path.write_text("\n".join(rows) + "\n")
    result = world.run(votes=path)["ferplus"]
    assert (result["n"], result["unsettled"], result["labels_agree"]) == (113, 7, 1)
    assert result["fer2013"] == result["ferplus"] == result["either"]
    assert result["without_leaks"]["n"] == 103


def test_a_second_evaluation_is_the_same_byte_for_byte(evaluated: tuple[World, dict[str, Any]]) -> None:
    world, _ = evaluated
    files = [path for path in (world.root / "reports").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    world.run()
    assert {path: path.read_bytes() for path in files} == before


def test_a_tie_goes_to_the_more_accurate_family_and_then_to_the_first() -> None:
    tie = {"a": {"macro_f1": 0.5, "accuracy": 0.6}, "b": {"macro_f1": 0.5, "accuracy": 0.6}}
    assert select(tie) == "a"
    assert select({**tie, "c": {"macro_f1": 0.5, "accuracy": 0.7}}) == "c"
    assert select({**tie, "c": {"macro_f1": 0.4996, "accuracy": 0.7}}) == "c"  # 0.500, as it is told
    assert select({**tie, "c": {"macro_f1": 0.499, "accuracy": 0.7}}) == "a"


def test_damaged_faces_decide_where_they_were_scored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "with_damaged" not in world.run()["families"]["good"]["validation"]
    # Damage that turns each brightness into the next: who knows clean faces is wrong, who knows these is right.
    monkeypatch.setattr(corruptions, "by_cameras", lambda images, _: np.minimum(images + 30, 200).astype(np.uint8))
    content = world.run(world.with_(damaged=True))
    for entry in content["families"].values():
        clean, both = entry["validation"], entry["validation"]["with_damaged"]
        assert both["accuracy"] < clean["accuracy"]
    scored = {"plain": {"macro_f1": 0.66, "accuracy": 0.69}, "robust": {"macro_f1": 0.65, "accuracy": 0.68}}
    assert select(scored) == "plain"
    damaged = {"plain": 0.58, "robust": 0.64}
    both = {
        name: entry | {"with_damaged": {"macro_f1": damaged[name], "accuracy": 0.6}} for name, entry in scored.items()
    }
    assert select(both) == "robust"


def test_no_family_at_all_is_said_in_words() -> None:
    with pytest.raises(MienError, match="no families"):
        select({})


def test_a_model_of_other_data_is_refused_and_nothing_is_written(world: World) -> None:
    path = world.root / "reports" / "train" / "good.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "data": {"name": "fer2013", "digest": "f" * 64}}))
    with pytest.raises(MienError, match=r"good\.json.*trained on other data \(fer2013, ffffffffffff\).*dvc repro"):
        world.run()
    assert not (world.root / "reports" / "evaluation.json").exists()


def test_a_family_that_was_not_trained_is_named(world: World) -> None:
    (world.root / "reports" / "train" / "good.json").unlink()
    with pytest.raises(MienError, match=r"good\.json is missing.*dvc repro train@good"):
        world.run()
    students = {"good": world.params.families["good"]}
    families = {"memoriser": world.params.families["memoriser"]}
    world.params = dataclasses.replace(world.params, families=families, students=students)
    with pytest.raises(MienError, match=r"good\.json is missing.*dvc repro distil@good"):
        world.run()
