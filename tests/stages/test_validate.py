"""The stage writes its report and Data Docs, and stops the pipeline on a critical failure."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mien.config.params import Params
from mien.data import sources
from mien.data.quality import profile
from mien.errors import MienError
from mien.experiments import story_batches
from mien.stages import prepare, validate


def outputs(folder: Path) -> tuple[Path, Path]:
    return folder / "reports" / "validation.json", folder / "reports" / "data_docs"


@pytest.fixture(scope="module")
def validated(prepared: Path, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a first run on the sample."""
    folder = tmp_path_factory.mktemp("validated")
    validate.run(prepared, *outputs(folder), params)
    return folder


@pytest.fixture
def spoilt(prepared: Path, tmp_path: Path) -> Path:
    """The sample, with statistics as if its images had been blurred and one origin stood there twice."""
    folder = tmp_path / "prepared"
    shutil.copytree(prepared, folder)
    statistics = pd.read_parquet(folder / "statistics.parquet")
    statistics["sharpness"] /= 5
    statistics["origin"] = statistics["origin"].replace("sample:8", "sample:7")
    statistics.to_parquet(folder / "statistics.parquet")
    return folder


def test_the_report_says_what_was_expected_and_observed(validated: Path, prepared: Path) -> None:
    report = json.loads(outputs(validated)[0].read_text())
    info = json.loads((prepared / "dataset.json").read_text())
    assert report["success"] is True
    assert (report["critical"], report["warnings"]) == (0, 0)
    assert report["profile"] == "synthetic sample"
    assert report["data"] == {"name": "synthetic sample", "digest": info["digest"]}
    entry = next(entry for entry in report["expectations"] if entry["name"] == "split.known")
    assert entry == {
        "name": "split.known",
        "severity": "critical",
        "success": True,
        "observed": "0 of 700 rows differ",
        "expected": "one of train, validation, test",
        "rows": [],
    }


def test_a_second_run_writes_the_same_bytes(validated: Path, prepared: Path, params: Params, tmp_path: Path) -> None:
    validate.run(prepared, *outputs(tmp_path), params)
    for first, second in zip(outputs(validated), outputs(tmp_path), strict=True):
        page = "index.html" if first.is_dir() else ""
        assert (first / page).read_bytes() == (second / page).read_bytes()


def test_data_docs_open_offline(validated: Path) -> None:
    page = (outputs(validated)[1] / "index.html").read_text()
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    assert "fit to train on" in page
    assert page.count("probe.train (critical): accuracy of a cheap probe at least") == 1


def test_a_critical_failure_is_raised_after_the_report_and_names_rows(
    spoilt: Path, params: Params, tmp_path: Path
) -> None:
    report, docs = outputs(tmp_path)
    with pytest.raises(MienError) as refusal:
        validate.run(spoilt, report, docs, params)
    message = str(refusal.value)
    assert message.startswith("The data break 4 critical expectations of profile 'synthetic sample':")
    assert (
        "origin.unique: 2 of 700 rows differ; expected no origin twice\n    first rows: sample:7, sample:7" in message
    )
    assert re.search(r"sharpness.train: 5%: \d+\.\d; .*; expected quantiles 5%: \d+", message)
    assert "The pictures were altered" in message
    assert str(docs / "index.html") in message
    written = json.loads(report.read_text())
    assert (written["success"], written["critical"]) == (False, 4)
    assert "refused" in (docs / "index.html").read_text()


def test_a_warning_is_reported_and_stops_nothing(spoilt: Path, params: Params, tmp_path: Path) -> None:
    statistics = pd.read_parquet(spoilt / "statistics.parquet")
    statistics["origin"] = [f"faces:{row}" for row in statistics["row"]]
    statistics["width"] = 20
    statistics.to_parquet(spoilt / "statistics.parquet")
    generic = replace(params, validate=replace(params.validate, profile="generic", probe=False))
    validate.run(spoilt, *outputs(tmp_path), generic)
    report: dict[str, Any] = json.loads(outputs(tmp_path)[0].read_text())
    assert (report["success"], report["warnings"]) == (True, 1)
    assert "No profile is known for this data set" in report["about"]
    assert not any(entry["name"].startswith("probe") for entry in report["expectations"])


def test_a_learnt_profile_accepts_its_own_data_and_refuses_spoilt_ones(
    prepared: Path, spoilt: Path, params: Params, tmp_path: Path
) -> None:
    target = tmp_path / "mine.json"
    validate.learn(prepared, target, "Learnt from the sample.")
    assert profile.load(str(target), "").dataset == "synthetic sample"
    mine = replace(params, validate=replace(params.validate, profile=str(target)))
    validate.run(prepared, *outputs(tmp_path), mine)
    with pytest.raises(MienError, match=r"sharpness\.train"):
        validate.run(spoilt, *outputs(tmp_path), mine)


def test_an_unknown_profile_and_missing_data_are_refused_before_work_begins(
    prepared: Path, params: Params, tmp_path: Path
) -> None:
    unknown = replace(params, validate=replace(params.validate, profile="fer2014"))
    with pytest.raises(MienError, match="fer2014"):
        validate.run(prepared, *outputs(tmp_path), unknown)
    with pytest.raises(MienError, match=r"dataset.json is missing. Make it with `dvc repro prepare`"):
        validate.run(tmp_path, *outputs(tmp_path), params)
    assert not outputs(tmp_path)[0].exists()


def test_statistics_that_are_no_table_are_refused(spoilt: Path, params: Params, tmp_path: Path) -> None:
    pd.read_parquet(spoilt / "statistics.parquet").drop(columns="copies").to_parquet(spoilt / "statistics.parquet")
    with pytest.raises(MienError, match=r"lacks copies. Make it anew"):
        validate.run(spoilt, *outputs(tmp_path), params)
    (spoilt / "statistics.parquet").write_bytes(b"nothing")
    with pytest.raises(MienError, match=r"dvc repro -f prepare"):
        validate.run(spoilt, *outputs(tmp_path), params)


def test_a_later_batch_is_judged_by_itself(params: Params, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    sources.write(sources.sample(rows=700), raw)
    faces = story_batches.drawn(140, seed=3)
    for name, later in {"good": faces, "bad": story_batches.blurred(story_batches.drawn(140, seed=4))}.items():
        story_batches.write(tmp_path / f"{name}.csv", later)
        sources.write(sources.csv(tmp_path / f"{name}.csv").renamed("synthetic sample"), raw, append=True)
        prepare.run(raw, tmp_path / "prepared", tmp_path / "plots", params, progress=False)
        report, docs = outputs(tmp_path)
        if name == "good":
            validate.run(tmp_path / "prepared", report, docs, params, raw=raw)
            continue
        with pytest.raises(MienError, match=r"sharpness\.002_synthetic_sample"):
            validate.run(tmp_path / "prepared", report, docs, params, raw=raw)
    failed = [e["name"] for e in json.loads(report.read_text())["expectations"] if not e["success"]]
    assert [name for name in failed if not name.endswith(".002_synthetic_sample")] == [], "the good ones are not blamed"


def test_raw_rows_that_were_not_prepared_are_refused(prepared: Path, params: Params, tmp_path: Path) -> None:
    sources.write(sources.sample(rows=42), tmp_path / "raw")
    with pytest.raises(MienError, match="holds 42 rows, but 700 were prepared"):
        validate.run(prepared, *outputs(tmp_path), params, raw=tmp_path / "raw")
