import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mien.config.params import Params, load, merge, parse
from mien.errors import MienError
from mien.experiments.demo import OVERLAY
from mien.experiments.pipeline import parameters

ROOT = Path(__file__).parents[2]


def changed(tmp_path: Path, changes: dict[str, Any]) -> Path:
    tree = merge(yaml.safe_load((ROOT / "params.yaml").read_text()), changes)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


STUDENT: dict[str, Any] = {
    "model": {"network": "cnn", "blocks": [[8]]},
    "train": {},
    "distil": {"teachers": ["cnn", "vgg16", "cnn", "cnn", "cnn"]},
}


def test_a_student_is_a_candidate_like_any_family(tmp_path: Path) -> None:
    loaded = load(changed(tmp_path, {"students": {"small": STUDENT}, "families": {"vgg16": {"seed": 11}}}))
    assert list(loaded.candidates) == [*loaded.families, "small", "student", "student_8", "student_9"]
    distil = loaded.family("small").distil
    assert distil is not None
    assert (set(distil.teachers), distil.temperature, distil.weight) == ({"cnn", "vgg16"}, 2.0, 0.7)
    assert loaded.training("small")[0].blocks == ((8,),)
    assert (loaded.seed_of("small"), loaded.seed_of("vgg16")) == (7, 11)


def test_one_recipe_can_stand_once_for_several_seeds(tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    del tree["families"], tree["students"]
    tree["evaluate"]["ensembles"] = {}
    families = """families:
  cnn: {model: &cnn {network: cnn, blocks: [[8]], dropout: 0.3}, train: &recipe {epochs: 3}}
  cnn_8: {model: *cnn, train: *recipe, seed: 8}
students: {}
"""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree) + families)
    loaded = load(tmp_path / "params.yaml")
    assert loaded.training("cnn") == loaded.training("cnn_8")
    assert (loaded.seed_of("cnn"), loaded.seed_of("cnn_8")) == (7, 8)


def test_the_families_are_registered(params: Params) -> None:
    teachers = ["cnn_wide", "cnn_wide_8", "cnn_wide_9", "cnn_deep", "vgg16"]
    harder = ["cnn_flat", "cnn_flat_8", "vgg16_harder", "vgg16_harder_9", "cnn_deep_harder", "cnn_wide_harder"]
    longer = ["cnn_deep_longer", "vgg16_longer"]
    assert list(params.families) == ["cnn", *teachers, *harder, *longer, "resnet50", "efficientnetb0"]


def test_a_familys_block_is_laid_over_the_common_recipe(tmp_path: Path) -> None:
    path = changed(tmp_path, {"families": {"cnn": {"train": {"epochs": 3, "augmentation": {"rotation": 4}}}}})
    _, recipe = load(path).training("cnn")
    assert (recipe.epochs, recipe.augmentation.rotation) == (3, 4.0)
    assert recipe.augmentation.flip


def test_an_empty_mapping_empties_what_it_is_laid_over() -> None:
    base = {"search": {"a": 1}, "train": {"epochs": 3}}
    assert merge(base, {"search": {}, "train": {"rate": 1}}) == {"search": {}, "train": {"epochs": 3, "rate": 1}}


def test_chosen_values_are_laid_over_the_familys_block(params: Params) -> None:
    architecture, recipe = params.training("cnn", {"train.learning_rate": 0.011, "model.dropout": 0.45})
    assert (recipe.learning_rate, architecture.dropout) == (0.011, 0.45)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epoch": 3}}, "Unknown key train.epoch"),
        ({"train": {"epochs": -1}}, "train.epochs is -1, expected a number at least 0"),
        (
            {"families": {"cnn": {"train": {"epochs": 0}}}},
            "families.cnn.train.epochs is 0, expected 1 or more where model.weights names no weights",
        ),
        (
            {"families": {"cnn": {"model": {"weights": "mine.keras"}}}},
            "families.cnn.model.weights is 'mine.keras', expected imagenet, shipped or the path of an exported",
        ),
        (
            {"train": {"augmentation": {"dark": {"probability": 1, "strength": 1.2}}}},
            "families.cnn.train.augmentation.dark.strength is 1.2, expected 0 to 1",
        ),
        ({"train": {"epochs": "many"}}, "train.epochs is 'many', expected a whole number"),
        ({"train": {"optimizer": "sdg"}}, "train.optimizer is 'sdg', expected one of sgd, adam, adamw"),
        ({"train": {"augmentation": {"flip": "yes please"}}}, "train.augmentation.flip"),
        ({"families": {"cnn": {"model": {"blocks": 3}}}}, "families.cnn.model.blocks is 3, expected a list"),
        ({"families": {"cnn": {"model": {"dropout": 1.5}}}}, "families.cnn.model.dropout is 1.5"),
        ({"families": {"new": {"model": {}, "train": {}}}}, "Missing key families.new.model.network"),
        ({"families": {"cnn": {"search": {"model.options.a.b": {"low": 1}}}}}, "families.cnn.search has 'model.opt"),
        ({"families": {"cnn": {"train": {"epchs": 1}}}}, "Unknown key families.cnn.train.epchs"),
        ({"families": {"cnn": {"search": {"train.rate": {"low": 1}}}}}, "families.cnn.search has 'train.rate'"),
        ({"seed": None}, "seed is None, expected a whole number"),
        ({"evaluate": {"tta": "five"}}, "evaluate.tta is 'five', expected one of none, flip, ten_crop, multi_scale"),
        ({"evaluate": {"crops": [73]}}, "evaluate.crops[0] is 73, expected a number between 24 and 72"),
        ({"evaluate": {"ensembles": {"one": ["cnn"]}}}, "evaluate.ensembles.one is ['cnn'], expected different names"),
        ({"evaluate": {"ensembles": {"two": ["cnn", "vgg"]}}}, "evaluate.ensembles.two is ['cnn', 'vgg']"),
        ({"package": {"tta": "five"}}, "package.tta is 'five', expected one of none, flip, ten_crop, multi_scale"),
        ({"families": {"cnn": {"seed": -1}}}, "families.cnn.seed is -1, expected a number at least 0"),
        ({"families": {"cnn": {"distil": {"teachers": ["vgg16"] * 5}}}}, "families.cnn is a student"),
        (
            {"students": {"small": {"model": {"network": "cnn"}, "train": {}}}},
            "students.small needs distil: with its teachers",
        ),
        ({"students": {"small": STUDENT | {"distil": {"teachers": ["cnn"]}}}}, "teachers is ['cnn'], expected 5 names"),
        ({"students": {"small": STUDENT | {"distil": {"teachers": ["cnn"] * 4 + ["small"]}}}}, "expected 5 names"),
        (
            {"students": {"small": STUDENT | {"distil": {"teachers": ["cnn"] * 5, "start": "vgg16"}}}},
            "students.small.distil.start is 'vgg16', expected one of its teachers",
        ),
        (
            {"students": {"small": STUDENT | {"distil": {"teachers": [], "weight": 2}}}},
            "students.small.distil.weight is 2",
        ),
        ({"families": {"champion": {"model": {"network": "vgg16"}, "train": {}}}}, "A family is named 'champion'"),
        ({"students": {"cnn": STUDENT}}, "families.cnn is a student, or is named like one"),
    ],
)
def test_a_key_that_does_not_fit_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MienError, match=re.escape(message)):
        load(changed(tmp_path, changes))


def test_one_message_names_all_that_does_not_fit(tmp_path: Path) -> None:
    changes = {
        "seed": -1,
        "train": {"epoch": 3, "batch_size": "many"},
        "families": {"cnn": {"model": {"dropout": 2}}, "vgg16": {"model": {"width": 9}}},
    }
    with pytest.raises(MienError) as caught:
        load(changed(tmp_path, changes))
    named = ["seed", "train.epoch", "train.batch_size", "families.cnn.model.dropout", "families.vgg16.model.width"]
    assert all(name in str(caught.value) for name in named)
    assert len(str(caught.value).splitlines()) == len(named)


def test_families_students_and_ensembles_that_do_not_fit_are_named_together(tmp_path: Path) -> None:
    changes = {
        "families": {"cnn": {"train": {"epchs": 1}}},
        "students": {"small": STUDENT | {"distil": {"teachers": ["vgg"] * 5}}},
        "evaluate": {"ensembles": {"two": ["cnn", "vgg"]}},
    }
    with pytest.raises(MienError, match=r"(?s)families\.cnn\.train.*students\.small.*ensembles\.two"):
        load(changed(tmp_path, changes))


def test_a_student_may_teach_those_below_it(tmp_path: Path) -> None:
    older, younger = STUDENT, STUDENT | {"distil": {"teachers": ["older"] * 5, "start": "older"}}
    params = load(changed(tmp_path, {"students": {"older": older, "younger": younger}}))
    assert params.students["younger"].distil is not None
    with pytest.raises(MienError, match=re.escape("students.an_older.distil.teachers is ['older',")):
        load(changed(tmp_path, {"students": {"older": older, "an_older": younger}}))  # which stands first in the file


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    del tree["promote"]["floor"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(MienError, match=r"Missing key promote\.floor"):
        load(path)


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="is missing"):
        load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(MienError, match="not valid YAML"):
        load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(MienError, match="expected a mapping"):
        load(tmp_path / "params.yaml")


def test_an_unknown_family_lists_the_known(params: Params) -> None:
    with pytest.raises(MienError, match=r"Unknown family 'cn': params\.yaml has cnn, cnn_wide, cnn_wide_8, "):
        params.family("cn")


def test_the_demos_overlay_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    overlay, loaded = yaml.safe_load(OVERLAY.read_text()), parse(parameters(OVERLAY))
    assert list(loaded.candidates) == list(overlay["families"]), "the demo trains what it names and nothing else"
    assert loaded.training("vgg16")[1].epochs == 1
