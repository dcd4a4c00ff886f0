"""What a part of the recipe is worth: seeds of one recipe together, held against the first recipe seed by seed."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mien.cli.main import main
from mien.config.params import parse
from mien.evaluation.scores import by_recipe
from mien.experiments import ablations
from mien.experiments.pipeline import parameters

ROOT = Path(__file__).parents[2]


def family(seed: int, macro_f1: float, **recipe: Any) -> dict[str, Any]:
    return {"params": recipe, "seed": seed, "validation": {"accuracy": macro_f1 + 0.05, "macro_f1": macro_f1}}


FAMILIES = {
    "recipe": family(7, 0.5),
    "recipe_8": family(8, 0.52),
    "mixup": family(7, 0.51, mixup=0.2),
    "mixup_8": family(8, 0.5, mixup=0.2),
    "ema": family(7, 0.53, ema=0.99),
}


def test_a_change_is_held_against_the_recipe_of_the_same_seed() -> None:
    plain, mixup, ema = ablations.ablations(FAMILIES)
    assert (plain.name, mixup.name, ema.name) == ("recipe", "mixup", "ema")
    assert plain.gain == {7: 0, 8: 0}
    assert mixup.gain == pytest.approx({7: 0.01, 8: -0.02})
    assert ema.gain == pytest.approx({7: 0.03}), "a seed that is not trained yet is left out"


def test_the_table_tells_mean_deviation_and_every_seeds_gain() -> None:
    assert ablations.table(ablations.ablations(FAMILIES)).splitlines()[1:] == [
        "recipe                56.0% ± 1.4%    0.510 ± 0.014     +0.000  +0.000",
        "mixup                 55.5% ± 0.7%    0.505 ± 0.007     +0.010  -0.020",
        "ema                   58.0%           0.530             +0.030",
    ]


def test_each_recipe_of_the_overlay_has_the_same_seeds_and_differs_in_one_thing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    params = parse(parameters(ablations.OVERLAY))
    trained = {
        name: {"params": params.training(name), "seed": params.seed_of(name), "validation": {}}
        for name in params.families
    }
    groups = by_recipe(trained)
    assert all(set(group) == {7, 8} for group in groups)
    assert len(groups) == len(params.families) / 2, "no change is without effect"


def test_the_command_draws_and_tells_without_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def compare(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return FAMILIES

    monkeypatch.setattr(ablations, "compare", compare)
    options = {"--folder": tmp_path / "new", "--raw": tmp_path / "raw", "--report": tmp_path / "ablations.json"}
    plot = tmp_path / "ablations.png"
    words = [str(word) for option in {**options, "--plot": plot}.items() for word in option]
    result = CliRunner().invoke(main, ["ablations", *words])
    assert asked == [(ablations.OVERLAY, *options.values())], "nothing asks for the test split"
    assert plot.exists()
    assert result.stdout.splitlines()[-1].startswith("ema                   58.0%")
