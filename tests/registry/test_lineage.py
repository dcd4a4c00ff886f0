"""Lineage: what is written on a version, and every question that finds it again."""

import json
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.registry import lineage, provenance, tracking
from mien.registry.tracking import versions

LOCK = """
schema: '2.0'
stages:
  prepare: {cmd: p, deps: [{path: data/raw, md5: 45ef0011223344556677.dir}]}
  validate: {cmd: v}
  tune@cnn: {cmd: t}
  train@cnn: {cmd: r}
  train@vgg16: {cmd: other}
  evaluate: {cmd: e}
  promote: {cmd: OTHER}
"""


@pytest.fixture
def project(store: Path, write_model: Any) -> Path:
    """A folder with a lock file, two raw batches, and version 1 and 2 of `mien`, the first without the second batch."""
    raw = store / "data" / "raw"
    raw.mkdir(parents=True)
    for number, batch in enumerate(("first", "second")):
        (raw / f"00{number}_{batch}.parquet").write_text(batch)
        (store / "dvc.lock").write_text(LOCK.replace("45ef", f"{number}5ef"))
        onnx = write_model(store / "model.onnx", sharpness=0.01 * (1 + number))
        with tracking.run("mien", "cnn", tags={"git.commit": "7ea1" * 10}) as run:
            run.log_model(onnx, {})
        tags = {"family": "cnn", "data.name": "faces", "data.digest": f"{number}d1ce5" * 8, "onnx_sha256": "0ff1ce" * 8}
        versions.register("mien", run.id, lineage.tags("cnn") | tags)
    versions.set_alias("mien", "champion", "2")
    return store


def found(question: str) -> list[str]:
    """Versions that answer to a question."""
    return [one.version for one in lineage.trace("mien", question)]


@pytest.mark.usefixtures("project")
def test_a_bento_leads_to_everything_behind_it() -> None:
    versions.tag("mien", "1", lineage.bento_tags("mien:v1-20260101-120000"))
    versions.tag("mien", "1", lineage.bento_tags("mien:v1-20260102-120000"))
    (one,) = lineage.trace("mien", "mien:v1-20260101-120000")
    assert (one.version, one.matched, one.family, one.aliases) == ("1", "bento", "cnn", ())
    assert one.bentos == ("mien:v1-20260101-120000", "mien:v1-20260102-120000")
    assert one.training_commit == "7ea1" * 10
    assert one.dvc_lock != provenance.lock_hash("cnn"), "the lock has moved on since"
    assert [other.dvc_lock for other in lineage.trace("mien", "2")] == [provenance.lock_hash("cnn")]
    assert found(one.dvc_lock[:12]) == ["1"]
    assert (one.data_name, one.data_digest) == ("faces", "0d1ce5" * 8)
    assert one.dvc_data == "05ef0011223344556677.dir"
    assert one.batches.keys() == {"000_first.parquet"}
    assert one.run_id
    json.dumps(one.asdict())


@pytest.mark.usefixtures("project")
def test_versions_aliases_and_digests_are_understood() -> None:
    assert found("1") == found("v1") == ["1"]
    assert found("champion") == ["2"]
    assert lineage.trace("mien", "champion")[0].aliases == ("champion",)
    assert found("1d1ce5") == ["2"]
    assert found("0ff1ce" * 8) == ["1", "2"]
    assert found("05ef0011") == ["1"]


def test_a_batch_leads_to_the_versions_trained_on_it(project: Path) -> None:
    first, second = sorted((project / "data" / "raw").iterdir())
    assert found(str(first)) == ["1", "2"]
    assert found(str(second)) == ["2"]
    md5 = provenance.file_hash(second)
    assert found(md5) == found(md5[:8].upper()) == ["2"]
    assert lineage.trace("mien", md5)[0].matched == "batch.001_second.parquet"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("question", ["3", "mien:v9-1", "abcdef12", "1d1", "nobody", "data/raw"])
def test_a_question_without_an_answer_says_what_can_be_asked(question: str) -> None:
    with pytest.raises(MienError, match=f"Nothing in the registry of 'mien' matches '{question}'. Expected a Bento"):
        lineage.trace("mien", question)


def test_the_lock_hash_is_of_the_stages_behind_the_model(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    assert provenance.lock_hash("cnn", tmp_path) == ""
    lock.write_text(LOCK)
    before = provenance.lock_hash("cnn", tmp_path)
    lock.write_text(LOCK.replace("OTHER", "promoted since").replace("other", "another family"))
    assert provenance.lock_hash("cnn", tmp_path) == before, "what comes later, and other families, change nothing"
    lock.write_text(LOCK.replace("{cmd: r}", "{cmd: trained anew}"))
    assert provenance.lock_hash("cnn", tmp_path) not in {before, ""}
    assert provenance.lock_hash("vgg16", tmp_path) == "", "its search is not in the lock"


def test_behind_a_student_are_its_teachers_too(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    student = "  distil@small: {cmd: d, deps: [{path: models/cnn}, {path: src/mien/learning}]}"
    lock.write_text(LOCK)
    assert provenance.lock_hash("small", tmp_path) == ""
    lock.write_text(f"{LOCK}{student}")
    before = provenance.lock_hash("small", tmp_path)
    lock.write_text(f"{LOCK}{student}".replace("{cmd: other}", "{cmd: no teacher of its}"))
    assert provenance.lock_hash("small", tmp_path) == before
    lock.write_text(f"{LOCK}{student}".replace("{cmd: r}", "{cmd: trained anew}"))
    assert provenance.lock_hash("small", tmp_path) not in {before, ""}
    lock.write_text(f"{LOCK}{student.replace('models/cnn', 'models/vgg16')}")
    assert provenance.lock_hash("small", tmp_path) == "", "its teacher's search is not in the lock"


def test_batches_are_read_from_dvcs_list_where_it_is_at_hand(tmp_path: Path) -> None:
    assert provenance.batches(tmp_path) == {}
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "000_a.parquet").write_text("a")
    assert provenance.batches(tmp_path) == {"000_a.parquet": "0cc175b9c0f1b6a831c399e269772661"}
    (tmp_path / "dvc.lock").write_text(LOCK)
    listing = tmp_path / ".dvc" / "cache" / "files" / "md5" / "45" / "ef0011223344556677.dir"
    listing.parent.mkdir(parents=True)
    listing.write_text('[{"md5": "ab", "relpath": "000_a.parquet"}, {"md5": "cd", "relpath": "001_b.parquet"}]')
    assert provenance.batches(tmp_path) == {"000_a.parquet": "ab", "001_b.parquet": "cd"}


def test_who_acts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTOR", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "ada")
    assert provenance.who().startswith("ada@")
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    monkeypatch.setenv("GITHUB_REPOSITORY", "octocat/mien")
    assert provenance.who() == "octocat, run 42 of octocat/mien"
