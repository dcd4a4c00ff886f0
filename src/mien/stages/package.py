"""package: fetch the champion from the registry and build the Bento that serves it."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

import mien
from mien.config.params import Params
from mien.errors import MienError
from mien.files import read_json, swap, write_json
from mien.inference import detector_file, detectors, first_use
from mien.inference.champion import FOLDER, MODEL_FILE, SHIPPED, SHIPPED_VERSION, Card, read_card, write_card
from mien.inference.tta import Tta
from mien.monitoring.drift_windows import PROFILE_FILE
from mien.registry import lineage, promotion_log
from mien.registry.shipped import incumbent
from mien.registry.shipping import TEXT_FILE
from mien.registry.tracking import versions


def run(
    promotion: Path, champion: Path, report: Path, params: Params, bentofile: Path = Path("bentofile.yaml")
) -> None:
    """Write the folder `champion`, a Bento made from it by `bentofile`, and `report`.

    The previous champion stays until the new one and its Bento are whole. Raises MienError without a champion.
    """
    name = read_json(promotion, made_by="dvc repro promote")["model"]
    version = versions.champion(name) or incumbent(name, promotion_log.read(name), params.promote)
    if version is None:
        raise MienError(f"No version of {name!r} is champion in MLflow. Promote one: dvc repro promote.")
    champion.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=champion.parent, prefix=".champion-") as scratch:
        fresh = Path(scratch) / champion.name
        detector = _detector_file(params.package.detector, champion.parent)
        if version.version == SHIPPED_VERSION:
            card = copy_shipped(fresh, detector, params)
        else:
            card = fetch(name, version, fresh, detector, params)
        tag, path = build(fresh, bentofile, card)
        swap(fresh, champion)
    if version.version != SHIPPED_VERSION:
        versions.tag(name, version.version, lineage.bento_tags(tag))
    write_json(report, _report(card, tag, path))


def fetch(name: str, version: versions.Version, folder: Path, detector: Path | None, params: Params) -> Card:
    """Make `folder` a champion's folder: the version's ONNX file, YuNet where it is at hand, and the card."""
    tags, downloads = version.tags, folder.parent / "downloaded"
    onnx = versions.download(name, version.version, downloads)
    data = onnx.read_bytes()
    wanted = tags.get("onnx_sha256", "")
    if wanted and hashlib.sha256(data).hexdigest() != wanted:
        raise MienError(f"Version {version.version} of {name!r} is not the file that was evaluated. Promote it anew.")
    try:
        temperature = float(tags["temperature"])
    except (KeyError, ValueError):
        raise MienError(
            f"Version {version.version} of {name!r} has no tag `temperature` that is a number: it was not registered "
            "by `mien promote`. Move the alias champion to one that was."
        ) from None
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(data)
    for path in (downloads / "cards").glob("*_card.*"):
        shutil.copyfile(path, folder / path.name)
    # Versions of before have none.
    if (profile := downloads / "cards" / PROFILE_FILE).exists():
        shutil.copyfile(profile, folder / PROFILE_FILE)
    card = Card(
        version=version.version,
        temperature=temperature,
        uncertain_below=params.package.uncertain_below,
        detector=_pack_detector(detector, folder, params),
        family=tags.get("family", ""),
        data_name=tags.get("data.name", ""),
        data_digest=tags.get("data.digest", ""),
        git_commit=tags.get("git.commit", ""),
        synthetic=tags.get("synthetic") == "true",
        metrics=dict(version.metrics),
        # The version's own, not the parameter's: its temperature was fitted to answers of this kind.
        **asdict(Tta.of(tags)),
    )
    write_card(folder, card)
    return card


def copy_shipped(folder: Path, detector: Path | None, params: Params) -> Card:
    """Make `folder` a champion's folder of the model that comes with the package, where no other is champion."""
    folder.mkdir()
    for name in (MODEL_FILE, PROFILE_FILE):
        shutil.copyfile(SHIPPED / name, folder / name)
    shutil.copyfile(SHIPPED / TEXT_FILE, folder / "model_card.md")
    card = replace(
        read_card(SHIPPED),
        version=SHIPPED_VERSION,
        uncertain_below=params.package.uncertain_below,
        detector=_pack_detector(detector, folder, params),
    )
    write_card(folder, card)
    return card


def _pack_detector(detector: Path | None, folder: Path, params: Params) -> str:
    """Copy YuNet's file, if it is to be packed; answers the detector's name for the card."""
    if detector:
        shutil.copyfile(detector, folder / detector_file.YUNET_FILE)
        return "yunet"
    # Without its file, "auto" still takes the one that a user fetched.
    return "haar" if params.package.detector == "haar" else "auto"


def build(champion: Path, bentofile: Path, card: Card) -> tuple[str, Path]:
    """Build the Bento that `bentofile` describes around `champion`; answers its tag and where BentoML keeps it."""
    if not bentofile.is_file():
        raise MienError(f"{bentofile} is missing. Run `mien package` in the project's root.")
    if not _installed("uv"):
        # BentoML would install it on the way, from the network.
        raise MienError("`bentoml build` wants uv, which is not installed. Install it: pip install uv.")
    prefix = SHIPPED_VERSION if card.version == SHIPPED_VERSION else f"v{card.version}"
    version = f"{prefix}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    labels = {"model_version": card.version, "data_digest": card.data_digest, "git_commit": card.git_commit}
    options = [part for key, value in labels.items() if value for part in ("--label", f"{key}={value}")]
    with TemporaryDirectory(prefix="mien-bento-") as context:
        _fill(Path(context), champion, bentofile)
        command = [sys.executable, "-m", "bentoml", "build", ".", "--version", version, "--output", "tag", *options]
        search_path = os.pathsep.join(filter(None, [f"{context}/src", os.environ.get("PYTHONPATH")]))
        settings = {"PYTHONPATH": search_path, "BENTOML_HOME": str(_store()), "BENTOML_DO_NOT_TRACK": "True"}
        # BentoML reads only what lies below its current folder.
        done = subprocess.run(
            command, cwd=context, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
    tag = next((line.removeprefix("__tag__:") for line in done.stdout.splitlines() if line.startswith("__tag__:")), "")
    if done.returncode or not tag:
        result = ((done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"])[-1]
        raise MienError(f"`bentoml build` failed: {result}. Mend {bentofile} and run `mien package` again.")
    return tag, _store() / "bentos" / tag.replace(":", "/")


def _fill(context: Path, champion: Path, bentofile: Path) -> None:
    """Gather what the Bento is made from: in the project BentoML would walk through data and environments too.

    The champion that comes with the package stays out: the Bento has its own.
    """
    source = Path(mien.__file__).parent
    shutil.copytree(source, context / "src" / "mien", ignore=shutil.ignore_patterns("__pycache__", SHIPPED.name))
    shutil.copytree(champion, context / FOLDER)
    shutil.copyfile(bentofile, context / "bentofile.yaml")
    options = yaml.safe_load(bentofile.read_text(encoding="utf-8")) or {}
    requirements = (options.get("python") or {}).get("requirements_txt")
    if requirements:
        if not (bentofile.parent / requirements).is_file():
            raise MienError(f"{bentofile} names {requirements}, which is missing beside it. Make it with `make lock`.")
        shutil.copyfile(bentofile.parent / requirements, context / requirements)


def _detector_file(wanted: str, models: Path) -> Path | None:
    """YuNet's file, checked, for the Bento to carry: from MIEN_YUNET, models/detector, or the one fetched once."""
    if wanted == "haar":
        return None
    named = os.environ.get(detector_file.YUNET_VARIABLE)
    files = [] if named else sorted((models / "detector").glob("*.onnx"))
    file = files[0] if files else first_use.provided()
    if file:
        detectors.YuNet(file)
    elif wanted == "yunet":
        raise MienError(
            f"package.detector is yunet, but its file is not at hand. Put it into {models / 'detector'}, "
            f"let {detector_file.YUNET_VARIABLE} name it, or set package.detector to auto or haar."
        )
    return file


def _report(card: Card, tag: str, path: Path) -> dict[str, str | int]:
    name, _, version = tag.partition(":")
    return {
        "tag": tag,
        "name": name,
        "version": version,
        "model_version": card.version,
        "data_digest": card.data_digest,
        "git_commit": card.git_commit,
        "detector": card.detector,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }


def _store() -> Path:
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME", "~/bentoml"))).expanduser().absolute()


def _installed(name: str) -> bool:
    if shutil.which(name):
        return True
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
