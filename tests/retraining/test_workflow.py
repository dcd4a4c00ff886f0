"""The workflows: valid by GitHub's schema, careful with rights, and retrain.yml executed against real local parts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from mien.experiments import story, story_batches
from mien.registry import promotion_log
from mien.registry.tracking import versions

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GOOD, POISON = 1400, 280
IDENTITY = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")


def content(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = yaml.safe_load(path.read_text())
    return result


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid_by_githubs_schema(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_githubs_own_and_pinned_by_its_full_hash(path: Path) -> None:
    used = re.findall(r"uses: (\S+)", path.read_text())
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_code_of_the_project_runs_without_the_right_to_write(path: Path) -> None:
    workflow = content(path)
    for job in workflow["jobs"].values():
        rights = job.get("permissions", workflow["permissions"])
        steps = "\n".join(step.get("run", "") for step in job["steps"])
        if re.search(
            r"\b(make|mien|python|uv|dvc [a-z]+)\b", steps.replace("mien report -->", "").replace("refs/mien", "")
        ):
            assert rights in ({}, {"contents": "read"})
            outs = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
            assert all(step["with"]["persist-credentials"] is False for step in outs)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_shell_line_holds_what_others_may_choose(path: Path) -> None:
    scripts = [step.get("run", "") for job in content(path)["jobs"].values() for step in job["steps"]]
    assert all("${{" not in script.replace("${{ matrix.target }}", "") for script in scripts)


def test_a_later_report_takes_the_place_of_the_first(empty_runner: Any) -> None:
    runner, job = empty_runner, empty_runner.workflow()["jobs"]["comment"]
    pull = {"number": 5, "head": {"ref": "x", "repo": {"full_name": "owner/project"}}}
    for text in ("First", "Second"):
        runner.runs += 1
        folder = runner.folder / "artifacts" / str(runner.runs) / "retraining"
        folder.mkdir(parents=True)
        (folder / "report.md").write_text(f"<!-- mien report -->\n{text}\n\n![Faces](added.png)\n")
        (folder / "added.png").write_bytes(text.encode())
        context = {"github": runner.github("pull_request", {"pull_request": pull}), "vars": {}, "steps": {}}
        assert runner.job("comment", job, {}, context).status == "success"
    bodies = [comment["body"] for comment in runner.told["comments"]]
    assert len(bodies) == 1
    assert "Second" in bodies[0]
    assert "First" not in bodies[0]
    shown = re.search(r"!\[Faces\]\(file:///\S+/raw/([0-9a-f]{40})/added\.png\)", bodies[0])
    assert shown
    command = ["git", "show", f"{shown[1]}:added.png"]
    assert subprocess.check_output(command, cwd=runner.repository, text=True) == "Second"
    refs = subprocess.check_output(["git", "for-each-ref", "--format=%(refname)"], cwd=runner.repository, text=True)
    assert refs.split() == ["refs/mien/pull-5"], "no branch and no tag"


def test_pictures_that_are_not_to_be_shown_stay_in_the_artifact(empty_runner: Any) -> None:
    runner, job = empty_runner, empty_runner.workflow()["jobs"]["comment"]
    runner.runs += 1
    folder = runner.folder / "artifacts/1/retraining"
    folder.mkdir(parents=True)
    (folder / "report.md").write_text("<!-- mien report -->\n![Faces](added.png)\n")
    pull = {"number": 5, "head": {"ref": "x", "repo": {"full_name": "owner/project"}}}
    variables = {"MIEN_REPORT_PICTURES": "false"}
    context = {"github": runner.github("pull_request", {"pull_request": pull}), "vars": variables, "steps": {}}
    assert runner.job("comment", job, {}, context).status == "success"
    (body,) = [comment["body"] for comment in runner.told["comments"]]
    assert "![" not in body
    assert "*Faces*, `added.png` in the [run's artifact](file://" in body


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: Callable[[Path], AbstractContextManager[int]]
) -> Iterator[str]:
    """An `mlflow server`, which this process's registry is too."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as port, pytest.MonkeyPatch.context() as patch:
        address = f"http://127.0.0.1:{port}"
        patch.setenv("MLFLOW_TRACKING_URI", address)
        yield address


class World:
    """A repository on "GitHub" whose first champion was trained by the workflow, and somebody's clone of it."""

    def __init__(self, runner: Any, server: str) -> None:
        """Lay the project out with small budgets, push it, and let the workflow see the push."""
        self.runner, self.clone = runner, runner.folder / "clone"
        runner.variables = {"MIEN_REMOTE": str(runner.folder / "remote"), "MLFLOW_TRACKING_URI": server}
        stage = story.Stage(runner.folder / "layout")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            story.lay_out(stage)
        for name in ("Makefile", "requirements.lock", "requirements-uv.lock"):
            shutil.copy(ROOT / name, stage.project)
        shutil.move(stage.project, self.clone)
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(runner.repository)], check=True)
        self.git("remote", "add", "origin", str(runner.repository))
        self.dvc("remote", "add", "--local", "--force", "--default", "ci", runner.variables["MIEN_REMOTE"])
        self.mien("fetch", "sample", "--rows", str(story.FIRST))
        self.share("Begin", "main")
        self.first = self.push()

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *IDENTITY, *arguments], cwd=self.clone, capture_output=True, text=True, check=True
        ).stdout.strip()

    def dvc(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments, "--quiet"], cwd=self.clone, check=True)

    def mien(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "mien", *arguments], cwd=self.clone, check=True, capture_output=True)

    def share(self, message: str, branch: str) -> None:
        """Commit, and push both to Git's and DVC's remote."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.dvc("push", "data/raw.dvc")
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")

    def begin(self, branch: str) -> None:
        """A branch off the newest main, with its data."""
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "--force", "-B", branch, "origin/main")
        self.dvc("checkout", "--force", "data/raw.dvc")

    def append(self, name: str, faces: story_batches.Faces) -> None:
        path = self.runner.folder / f"{name}.csv"
        story_batches.write(path, faces)
        self.mien("fetch", "csv", str(path), "--append", "--name", story.DATA)

    def pull_request(self, branch: str, number: int, repository: str = "owner/project") -> dict[str, Any]:
        head = {"ref": branch, "repo": {"full_name": repository}}
        jobs: dict[str, Any] = self.runner.event("pull_request", pull_request={"number": number, "head": head})
        return jobs

    def push(self, before: str = "0" * 40, message: str = "Something", actor: str = "somebody") -> dict[str, Any]:
        jobs: dict[str, Any] = self.runner.event("push", before=before, head_commit={"message": message}, actor=actor)
        return jobs

    def main(self) -> str:
        self.git("fetch", "--quiet", "origin")
        return self.git("rev-parse", "origin/main")

    def report(self) -> dict[str, Any]:
        """report.json of the last run."""
        path = self.runner.folder / "artifacts" / str(self.runner.runs) / "retraining/report.json"
        result: dict[str, Any] = json.loads(path.read_text())
        return result

    def comment(self, number: int) -> str:
        """The one comment on a pull request."""
        address = f"repos/owner/project/issues/{number}/comments"
        found = [comment["body"] for comment in self.runner.told["comments"] if comment["address"] == address]
        assert len(found) == 1
        return str(found[0])

    def poison(self, kind: str, number: int) -> dict[str, Any]:
        """A pull request with a poisoned batch."""
        self.begin(kind)
        exam = self.clone / "data/raw"
        self.append(kind, story_batches.poisoned(kind, POISON, number, exam_of(exam)))
        self.share(f"Add {kind} faces", kind)
        return self.pull_request(kind, number)


def exam_of(raw: Path) -> story_batches.Faces:
    """The test split's faces, out of the raw rows."""
    import numpy as np

    rows = [
        row
        for path in sorted(raw.glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
        if row["split"] == "test"
    ]
    images = [np.frombuffer(row["image"][-48 * 48 :], np.uint8).reshape(48, 48) for row in rows]
    return story_batches.Faces(np.stack(images), np.array([row["emotion"] for row in rows]))


def ran(job: Any) -> set[str]:
    """The stages that a job ran."""
    return set(re.findall(r"Running stage '(.*?)'", job.log))


@pytest.fixture(scope="module")
def world(runner: Any, server: str) -> World:
    return World(runner, server)


def executed(test: Any) -> Any:
    """Mark a test that lives in the world, whose first one waits for it to be made."""
    return pytest.mark.long(pytest.mark.timeout(1800)(test))


@executed
def test_the_first_push_trains_and_promotes_a_champion(world: World) -> None:
    assert world.first["retrain"].status == "success", world.first["retrain"].log
    assert world.first["retrain"].outputs == {"code": "0"}
    assert promotion_log.read("mien").champion == "1"
    assert world.report()["outcome"] == "promoted"


@executed
def test_what_main_is_to_keep_is_committed_with_the_mark_that_starts_nothing(world: World) -> None:
    assert world.first["keep"].status == "success", world.first["keep"].log
    assert world.first["comment"].status == "skipped"
    head = world.main()
    assert world.git("log", "-1", "--format=%an: %s", head) == "github-actions[bot]: Retrain: a new champion [skip ci]"
    assert "dvc.lock" in world.git("show", "--stat=200", "--format=", head)
    assert not world.git("ls-tree", "-r", "--name-only", head, "retraining")
    for actor, message in (("github-actions[bot]", "x"), ("somebody", "Retrain: a new champion [skip ci]")):
        assert world.push(head, message, actor)["retrain"].status == "skipped"


@executed
def test_the_artifact_holds_the_bento_and_its_cards(world: World) -> None:
    folder = world.runner.folder / "artifacts/1/retraining"
    assert [path.name.split("-")[1] for path in folder.glob("bento/*.bento")] == ["v1"]
    assert {path.name for path in folder.glob("bento/*_card.md")} == {"model_card.md", "data_card.md"}


@executed
def test_no_change_retrains_nothing(world: World) -> None:
    head = world.main()
    jobs = world.runner.event("schedule")
    assert jobs["retrain"].outputs == {"code": "10"}, jobs["retrain"].log
    # Those two draw the pictures of faces anew that Git does not keep; what they give is the same.
    assert ran(jobs["retrain"]) <= {"prepare", "evaluate"}
    assert jobs["keep"].status == jobs["comment"].status == "skipped"
    assert world.main() == head
    assert world.report()["outcome"] == "unchanged"


@executed
def test_a_pull_request_from_a_fork_runs_nothing(world: World) -> None:
    assert {job.status for job in world.pull_request("main", 9, "stranger/project").values()} == {"skipped"}


@executed
def test_a_good_batch_is_judged_on_its_pull_request_and_moves_nothing(world: World) -> None:
    head = world.main()
    world.begin("good")
    world.append("good", story_batches.drawn(GOOD, seed=11))
    world.share("Add good faces", "good")
    jobs = world.pull_request("good", 1)
    assert jobs["retrain"].outputs == {"code": "0"}, jobs["retrain"].log
    assert jobs["comment"].status == "success", jobs["comment"].log
    result = world.report()
    assert result["outcome"] == "accepted"
    assert result["data"]["added"] == {"train": dict.fromkeys(result["data"]["added"]["train"], GOOD // 7)}
    assert result["scores"]["challenger"]["macro_f1"] > result["scores"]["champion"]["macro_f1"]
    log = promotion_log.read("mien")
    assert (log.champion, len(log.entries)) == ("1", 1)
    assert versions.aliases("mien") == {"champion": "1"}
    assert len(versions.every("mien")) == 1
    assert world.main() == head


@executed
def test_its_comment_has_the_report_with_pictures_that_anybody_can_fetch(world: World) -> None:
    body = world.comment(1)
    assert "Better than the champion" in body
    commit = re.search(r"!\[Some of the faces that were added\]\(file:///\S+/raw/([0-9a-f]{40})/added\.png\)", body)
    assert commit
    kept = subprocess.check_output(["git", "ls-tree", "--name-only", commit[1]], cwd=world.runner.repository, text=True)
    assert {"added.png", "confusion_matrix.png"} <= set(kept.split())


@executed
def test_what_it_trained_is_committed_to_its_branch(world: World) -> None:
    world.git("fetch", "--quiet", "origin")
    assert world.git("log", "-1", "--format=%an: %s", "origin/good") == "github-actions[bot]: Retrain: judged [skip ci]"
    changed = world.git("show", "--name-only", "--format=", "origin/good").split()
    assert {"dvc.lock", "reports/evaluation.json"} <= set(changed)
    assert "reports/promotion.json" not in changed
    assert {Path(name).parts[0] for name in changed} <= {"dvc.lock", "data", "models", "reports"}


@executed
def test_merged_it_is_promoted_without_a_second_training(world: World) -> None:
    before = world.main()
    world.begin("main")
    world.git("merge", "--quiet", "--no-ff", "--no-edit", "origin/good")
    world.git("push", "--quiet", "origin", "main")
    jobs = world.push(before)
    assert jobs["retrain"].outputs == {"code": "0"}, jobs["retrain"].log
    assert jobs["keep"].status == "success", jobs["keep"].log
    assert {"promote", "package"} <= ran(jobs["retrain"])
    assert not {"tune@cnn", "train@cnn"} & ran(jobs["retrain"])
    assert world.report()["outcome"] == "promoted"
    assert promotion_log.read("mien").succession == ("1", "2")
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}


@executed
@pytest.mark.parametrize(("kind", "number"), [("shuffled", 21), ("blurred", 22), ("leaked", 23)])
def test_a_poisoned_batch_is_stopped_by_validation_and_the_champion_stays(world: World, kind: str, number: int) -> None:
    jobs = world.poison(kind, number)
    assert jobs["retrain"].status == "failure"
    assert jobs["retrain"].outputs == {"code": "12"}, jobs["retrain"].log
    assert ran(jobs["retrain"]) == {"prepare", "validate"}
    assert jobs["comment"].status == "success", jobs["comment"].log
    telling = {"shuffled": r"probe\.", "blurred": r"sharpness\.", "leaked": r"leaks\.test\.new"}[kind]
    assert re.search(telling, world.comment(number))
    assert "There is no challenger" in world.comment(number)
    assert promotion_log.read("mien").champion == "2"


@executed
def test_a_worse_model_is_refused_on_main_and_the_champion_stays(world: World) -> None:
    before = world.main()
    world.begin("main")
    path = world.clone / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["families"]["cnn"]["train"]["epochs"] = 1
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    world.share("Train for one epoch", "main")
    jobs = world.push(before)
    assert jobs["retrain"].status == "success", jobs["retrain"].log
    assert jobs["retrain"].outputs == {"code": "11"}
    assert jobs["keep"].status == "success", jobs["keep"].log
    result = world.report()
    assert "families.cnn.train.epochs" in result["params"]
    assert [rule["rule"] for rule in result["gate"] if not rule["passed"]]
    assert promotion_log.read("mien").champion == "2"
    assert versions.aliases("mien")["champion"] == "2"
    assert world.git("log", "-1", "--format=%s", world.main()) == "Retrain: refused, the champion stays [skip ci]"
