"""A small stand-in for GitHub Actions: it runs a workflow's own `run:` steps, in order, in fresh clones."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOKEN = re.compile(r"'(?:[^']|'')*'|&&|\|\||!=|==|!|[(),]|[A-Za-z_][\w.\-]*|\d+")
WORDS = {"&&": " and ", "||": " or ", "!": " not ", "true": "True", "false": "False"}

GH = """#!{python}
import json, re, sys
from pathlib import Path
store, words = Path({store!r}), sys.argv[1:]
told = json.loads(store.read_text()) if store.exists() else {{"calls": [], "comments": []}}
told["calls"].append(words)
body = next((Path(word[6:]).read_text() for word in words if word.startswith("body=@")), "")
address = next(word for word in words if word.startswith("repos/"))
if "PATCH" in words:
    told["comments"][int(address.rsplit("/", 1)[1]) - 1]["body"] = body
elif "POST" in words:
    told["comments"].append({{"address": address, "body": body}})
else:
    marker = re.search(r'startswith\\("(.*?)"\\)', " ".join(words))[1]
    for number, comment in enumerate(told["comments"], 1):
        if comment["address"] == address and comment["body"].startswith(marker):
            print(number)
store.write_text(json.dumps(told))
"""


@dataclass
class Result:
    """How one job ended."""

    status: str
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""


@dataclass
class Runner:
    """Runs workflows of the bare repository `owner/project` below `folder` with the variables of a repository."""

    folder: Path
    variables: Mapping[str, str]
    runs: int = 0

    @property
    def repository(self) -> Path:
        """What stands for the repository on GitHub."""
        return self.folder / "owner/project.git"

    @property
    def told(self) -> dict[str, Any]:
        """What `gh` was asked to do."""
        path = self.folder / "gh.json"
        content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"calls": [], "comments": []}
        return content

    def event(self, name: str, **payload: Any) -> dict[str, Result]:
        """Let an event happen on main, or on a pull request's branch; the jobs that ran, and how they ended."""
        self.runs += 1
        workflow, github = self.workflow(), self.github(name, payload)
        needs: dict[str, Any] = {}
        done: dict[str, Result] = {}
        for key, job in workflow["jobs"].items():
            required = job.get("needs")
            context = {
                "github": github,
                "vars": self.variables,
                "secrets": {},
                "needs": needs,
                "steps": {},
                "runner": {},
            }
            failed = bool(required) and done[required].status != "success"
            wanted = evaluate(job.get("if", "success()"), context, failed=failed)
            if not wanted or (required and done[required].status == "skipped"):
                done[key] = Result("skipped")
            else:
                done[key] = self.job(key, job, workflow.get("env", {}), context)
            needs[key] = {"outputs": done[key].outputs, "result": done[key].status}
        return done

    def workflow(self) -> dict[str, Any]:
        """retrain.yml."""
        content: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/retrain.yml").read_text())
        return content

    def github(self, name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The context `github` of an event."""
        pull = payload.get("pull_request")
        return {
            "event_name": name,
            "event": payload,
            "actor": payload.get("actor", "somebody"),
            "ref": f"refs/pull/{pull['number']}/merge" if pull else "refs/heads/main",
            "head_ref": pull["head"]["ref"] if pull else "",
            "repository": "owner/project",
            "server_url": self.folder.as_uri(),
            "run_id": str(self.runs),
            "token": "secret",
        }

    def job(self, key: str, job: Mapping[str, Any], shared: Mapping[str, str], context: dict[str, Any]) -> Result:
        """Run the steps of one job in a workspace of its own."""
        home = self.folder / "runs" / str(self.runs) / key
        workspace = home / "workspace"
        workspace.mkdir(parents=True)
        files = {name: home / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.touch()
        log, failed = "", False
        for step in job["steps"]:
            if not evaluate(str(step.get("if", "success()")), context, failed=failed):
                continue
            if "uses" in step:
                self.use(step, workspace, context)
                continue
            given = {**shared, **job.get("env", {}), **step.get("env", {})}
            github = context["github"]
            env = {
                **surroundings(),
                "PATH": ":".join(
                    [*files["GITHUB_PATH"].read_text().split(), str(self.folder / "bin"), os.environ["PATH"]]
                ),
                "PYTHONPATH": str(workspace / "src"),
                "BENTOML_HOME": str(home / "bentoml"),
                "GITHUB_REPOSITORY": github["repository"],
                "GITHUB_SERVER_URL": github["server_url"],
                **{name: str(path) for name, path in files.items()},
                **{name: fill(str(value), context) for name, value in given.items()},
            }
            files["GITHUB_OUTPUT"].write_text("")
            command = ["bash", "-e", "-c", fill(step["run"], context)]
            done = subprocess.run(
                command,
                cwd=workspace,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            log += f"\n### {step.get('name', '')}\n{done.stdout}"
            failed = failed or done.returncode != 0
            if "id" in step:
                pairs = (line.partition("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines())
                context["steps"][step["id"]] = {"outputs": {name: value for name, _, value in pairs}}
        (home / "log").write_text(log)
        outputs = {name: fill(value, context) for name, value in job.get("outputs", {}).items()}
        return Result("failure" if failed else "success", outputs, log)

    def use(self, step: Mapping[str, Any], workspace: Path, context: Mapping[str, Any]) -> None:
        """What the few actions do that the workflow uses."""
        action, given = step["uses"].partition("@")[0], step.get("with", {})
        artifact = self.folder / "artifacts" / str(self.runs)
        if action == "actions/checkout":
            self.check_out(workspace, context["github"]["event"], fill(given.get("ref", ""), context))
        elif action == "actions/upload-artifact":
            shutil.copytree(workspace / given["path"], artifact / given["name"])
        elif action == "actions/download-artifact":
            shutil.copytree(artifact / given["name"], workspace / given["path"])
        else:
            assert action in {"actions/setup-python", "actions/cache"}, action

    def check_out(self, workspace: Path, event: Mapping[str, Any], ref: str) -> None:
        """A fresh clone of main, or of a pull request merged into it, with an environment that is installed."""
        run("git", "clone", "--quiet", str(self.repository), ".", cwd=workspace)
        if ref:
            run("git", "checkout", "--quiet", ref, cwd=workspace)
        elif "pull_request" in event:
            run("git", "checkout", "--quiet", "--detach", cwd=workspace)
            branch = f"origin/{event['pull_request']['head']['ref']}"
            run("git", *IDENTITY, "merge", "--quiet", "--no-ff", "--no-edit", branch, cwd=workspace)
        binaries = workspace / ".venv/bin"
        binaries.mkdir(parents=True)
        for module in ("mien", "dvc", "bentoml"):
            script = binaries / module
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        (workspace / ".venv/.ready").touch()


IDENTITY = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")


def surroundings() -> dict[str, str]:
    """This process's variables, without those that would speak for the workflow."""
    foreign = ("MLFLOW_", "MIEN_", "GITHUB_", "DVC_", "AWS_", "OPTUNA_", "BENTOML_")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}


def run(*command: str, cwd: Path) -> str:
    """Run a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=surroundings())
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def fill(text: str, context: Mapping[str, Any]) -> str:
    """Replace every `${{ … }}` by what it stands for."""

    def told(match: re.Match[str]) -> str:
        value = evaluate(match[1], context)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return re.sub(r"\$\{\{(.*?)\}\}", told, text, flags=re.DOTALL)


def evaluate(expression: str, context: Mapping[str, Any], *, failed: bool = False) -> Any:
    """What one of GitHub's expressions stands for; a condition without a status function wants success."""
    body = expression.strip().removeprefix("${{").removesuffix("}}")
    tokens = TOKEN.findall(body)
    words = []
    for token, after in zip(tokens, [*tokens[1:], ""], strict=True):
        if token.startswith("'"):
            words.append(repr(token[1:-1].replace("''", "'")))
        elif re.match(r"[A-Za-z_]", token) and token not in WORDS:
            words.append(token if after == "(" else f"look({token!r})")
        else:
            words.append(WORDS.get(token, token))

    def look(path: str) -> Any:
        value: Any = context
        for part in path.split("."):
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        return value

    functions = {
        "look": look,
        "contains": lambda text, part: str(part).lower() in str(text).lower(),
        "cancelled": lambda: False,
        "success": lambda: not failed,
        "hashFiles": lambda *_: "0",
    }
    value = eval("".join(words).strip(), {"__builtins__": {}}, functions)
    states_its_own = any(name in body for name in ("cancelled()", "success()"))
    return value if states_its_own or not failed else False


def make(folder: Path) -> Runner:
    """An empty place for a repository, with a `gh` that writes down what it is asked."""
    (folder / "bin").mkdir(parents=True)
    gh = folder / "bin/gh"
    gh.write_text(GH.format(python=sys.executable, store=str(folder / "gh.json")))
    gh.chmod(0o755)
    return Runner(folder, {})


@pytest.fixture
def empty_runner(tmp_path: Path) -> Runner:
    """A runner with an empty repository."""
    made = make(tmp_path / "github")
    run("git", "init", "--quiet", "--bare", str(made.repository), cwd=tmp_path)
    return made


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A runner whose repository is still to be made."""
    return make(tmp_path_factory.mktemp("place") / "github")
