"""What holds dvc.yaml, params.yaml and the code together, and DVC's own behaviour on a pipeline of this shape."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mien.config.params import TEACHERS, Params
from mien.experiments.demo import OVERLAY
from mien.experiments.pipeline import lay_out, parameters

ROOT = Path(__file__).parent.parent
AGAIN = {"distil": "train"}
"""Entries that run another stage's command on other dependencies."""


def dvc(folder: Path, *arguments: str, check: bool = True) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return content


def test_a_stage_is_one_file_one_command_one_section_and_one_test(stages: dict[str, Any], params: Params) -> None:
    for name in set(stages) - AGAIN.keys():
        assert (ROOT / f"src/mien/stages/{name}.py").exists()
        assert (ROOT / f"tests/stages/test_{name}.py").exists()
        assert hasattr(params, name)
    files = {path.stem for path in (ROOT / "src/mien/stages").glob("*.py")} - {"__init__"}
    assert files == set(stages) - AGAIN.keys()


def test_a_stages_own_code_is_among_its_dependencies(stages: dict[str, Any]) -> None:
    for name, stage in stages.items():
        body = stage.get("do", stage)
        verb = AGAIN.get(name, name)
        assert f"src/mien/stages/{verb}.py" in body["deps"]
        assert verb in body["params"]
        assert body["cmd"].startswith(f"mien {verb} ")


NETWORK = "${item.model.network}"
ERRORS = {"mien.errors": "texts of errors", "mien.servers": "locks, and waiting for servers"}
TRACKING = {"mien.registry": "tracks what the stage did; no result is read from it"}
NO_RESULT = {
    stage: {**ERRORS, **(TRACKING if stage in ("tune", "train") else {})}
    for stage in ("prepare", "validate", "tune", "train", "evaluate", "promote", "package")
}
"""Modules that a stage may import without depending on them, each with the reason: they change no output of it."""


def imported(module: str) -> set[str]:
    """The modules of mien that a module imports, wherever in its code."""
    found = set()
    for node in ast.walk(ast.parse(source(module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mien":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if source(name).exists() else node.module for name in names}
    return found


def source(module: str) -> Path:
    path = ROOT / "src" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def closure(module: str) -> set[str]:
    """The module and all that it imports, and they, and so on."""
    found, new = set(), {module}
    while new:
        found |= new
        new = {name for one in new for name in imported(one)} - found
    return found


def not_covered(stage: str, deps: list[str]) -> set[str]:
    """Imported files that neither a dependency, nor a folder among them, nor NO_RESULT covers."""
    covering = {ROOT / dep for dep in deps}
    exempt = {source(name).parent if source(name).name == "__init__.py" else source(name) for name in NO_RESULT[stage]}
    files = {source(name) for name in closure(f"mien.stages.{stage}") if name != "mien"}
    covered = covering | exempt
    return {str(path.relative_to(ROOT)) for path in files if not covered & {path, *path.parents}}


def test_a_stage_depends_on_every_module_that_can_change_what_it_writes(stages: dict[str, Any]) -> None:
    missing = {
        name: not_covered(AGAIN.get(name, name), stage.get("do", stage)["deps"]) for name, stage in stages.items()
    }
    assert missing == {name: set() for name in stages}


@pytest.mark.parametrize(
    ("stage", "taken", "named"),
    [
        ("train", "src/mien/data/dataset.py", "src/mien/data/dataset.py"),
        ("train", "src/mien/learning/training", "src/mien/learning/training/loop.py"),
        ("validate", "src/mien/data/quality", "src/mien/data/quality/learnt_profile.py"),
        ("evaluate", "src/mien/config", "src/mien/config/params.py"),
        ("promote", "src/mien/inference/calibration.py", "src/mien/inference/calibration.py"),
        ("promote", "src/mien/registry", "src/mien/registry/challenger.py"),
        ("package", "src/mien/registry", "src/mien/registry/tracking/versions.py"),
    ],
)
def test_a_dependency_taken_out_is_named(stages: dict[str, Any], stage: str, taken: str, named: str) -> None:
    body = stages[stage].get("do", stages[stage])
    assert named in not_covered(stage, [dep for dep in body["deps"] if dep != taken])


def test_package_depends_on_the_code_that_the_bento_carries(stages: dict[str, Any]) -> None:
    carried = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["include"]
    rooms = {path.rstrip("/") for path in carried if path.startswith("src/mien/") and path.endswith("/")}
    assert rooms == {f"src/mien/{room}" for room in ("inference", "monitoring", "serving")}
    assert rooms <= set(stages["package"]["deps"])


def test_every_source_file_named_in_dvc_yaml_exists(stages: dict[str, Any]) -> None:
    for stage in stages.values():
        for path in stage.get("do", stage)["deps"]:
            assert "src/" not in path or (ROOT / path.replace(NETWORK, "cnn")).exists(), path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project laid out as the demo does it, with every stage's command replaced by one that writes its outputs."""
    folder = tmp_path_factory.mktemp("project") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        lay_out(folder, parameters(OVERLAY))
    tree = yaml.safe_load((folder / "dvc.yaml").read_text())
    for stage in tree["stages"].values():
        body = stage.get("do", stage)
        outs = [
            out if isinstance(out, str) else next(iter(out)) for out in body.get("outs", []) + body.get("metrics", [])
        ]
        body["cmd"] = " && ".join(f"mkdir -p $(dirname {out}) && md5sum params.yaml > {out}" for out in outs)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/000_x.parquet").write_text("faces")
    dvc(folder, "init", "--quiet", "--no-scm")
    dvc(folder, "repro", "--quiet")
    return folder


def ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def test_nothing_changed_runs_nothing(project: Path) -> None:
    assert ran(dvc(project, "repro")) == set()


def test_a_fresh_clone_without_data_lists_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    monkeypatch.chdir(ROOT)
    lay_out(folder, parameters(OVERLAY))
    dvc(folder, "init", "--quiet", "--no-scm")
    listed = ran(dvc(folder, "repro", "--dry", "--force"))
    assert {"prepare", "validate", "tune@cnn", "train@cnn", "evaluate", "promote", "package"} <= listed
    assert not (folder / "data").exists()


def test_a_changed_family_reruns_itself_and_what_depends_on_it(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    text = (folder / "params.yaml").read_text()
    tree = yaml.safe_load(text)
    tree["families"]["vgg16"]["model"]["dropout"] += 0.05
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert ran(dvc(folder, "repro")) == {"tune@vgg16", "train@vgg16", "evaluate", "promote", "package"}


@pytest.mark.parametrize(
    ("file", "rerun"),
    [("resnet50.py", {"tune@resnet50", "train@resnet50"}), ("mobilenet.py", set())],
    ids=["changed", "new"],
)
def test_a_networks_file_reruns_its_own_families_alone(
    project: Path, tmp_path: Path, file: str, rerun: set[str]
) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    with (folder / "src/mien/learning/models" / file).open("a") as source:
        source.write("# changed")
    assert {name for name in ran(dvc(folder, "repro")) if "@" in name} == rerun


def test_a_changed_threshold_trains_nothing(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    tree["promote"]["floor"] = 0.9
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert ran(dvc(folder, "repro")) == {"promote", "package"}


def test_a_student_is_trained_again_when_one_of_its_teachers_is(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    teachers = ["cnn", "vgg16", "cnn", "cnn", "cnn"]
    assert len(teachers) == TEACHERS
    tree["students"] = {"small": {"model": {"network": "cnn"}, "train": {}, "distil": {"teachers": teachers}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    judged = {"evaluate", "promote", "package"}
    assert ran(dvc(folder, "repro")) == {"distil@small"} | judged
    tree["families"]["vgg16"]["model"]["dropout"] += 0.05
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert ran(dvc(folder, "repro")) == {"tune@vgg16", "train@vgg16", "distil@small"} | judged
    tree["families"]["resnet50"]["model"]["dropout"] = 0.4
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert ran(dvc(folder, "repro")) == {"tune@resnet50", "train@resnet50"} | judged


def test_a_new_batch_reruns_everything(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    (folder / "data/raw/001_more.parquet").write_text("more faces")
    assert "prepare" in ran(dvc(folder, "repro"))


def test_of_two_runs_at_once_one_goes_on_and_the_other_says_why_not(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    tree = yaml.safe_load((folder / "dvc.yaml").read_text())
    tree["stages"]["prepare"]["cmd"] = "sleep 8 && " + tree["stages"]["prepare"]["cmd"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    command = [sys.executable, "-m", "dvc", "repro", "prepare"]
    both = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in "12"
    ]
    said = [run.communicate(timeout=120)[0] for run in both]
    codes = [run.returncode for run in both]
    assert 0 in codes
    for code, output in zip(codes, said, strict=True):
        assert code == 0 or "lock" in output.lower()
    assert ran(dvc(folder, "repro")) <= {"validate"}, "what ran is whole"


def test_data_pushed_to_a_remote_are_pulled_into_a_fresh_clone(tmp_path: Path) -> None:
    origin, clone, remote = tmp_path / "origin", tmp_path / "clone", tmp_path / "remote"
    (origin / "data/raw").mkdir(parents=True)
    (origin / "data/raw/000_x.parquet").write_bytes(b"faces")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q", "-b", "main", "."], cwd=origin, check=True)
    dvc(origin, "init", "--quiet")
    dvc(origin, "add", "--quiet", "data/raw")
    dvc(origin, "remote", "add", "--default", "storage", str(remote))
    subprocess.run([*git, "add", "-A"], cwd=origin, check=True)
    subprocess.run([*git, "commit", "-qm", "data"], cwd=origin, check=True)
    dvc(origin, "push", "--quiet")
    subprocess.run([*git, "clone", "-q", str(origin), str(clone)], check=True)
    assert not (clone / "data/raw").exists()
    dvc(clone, "pull", "--quiet")
    assert (clone / "data/raw/000_x.parquet").read_bytes() == b"faces"
