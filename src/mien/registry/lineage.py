"""Lineage both ways: from a version or a Bento to its origin, from data to the versions trained on them."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.errors import MienError
from mien.inference.champion import SHIPPED, SHIPPED_VERSION, read_card
from mien.registry import provenance, tracking
from mien.registry.shipped import shipped_version
from mien.registry.tracking import versions

BENTO, BATCH = "bento.", "batch."
"""Prefixes of version tags: `bento.<version>` = its tag, `batch.<file>` = its md5; one tag each, so none is lost."""

SHORTEST = 6
"""Fewest digits of an abbreviated digest or commit."""


@dataclass(frozen=True)
class Lineage:
    """Where one version comes from and what was made of it; `matched` names the fields that matched the query."""

    version: str
    matched: str
    family: str
    aliases: tuple[str, ...]
    run_id: str
    git_commit: str
    training_commit: str
    trained_on: str
    dvc_lock: str
    data_name: str
    data_digest: str
    dvc_data: str
    batches: Mapping[str, str]
    onnx_sha256: str
    bentos: tuple[str, ...]

    def asdict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def tags(family: str, root: Path = Path()) -> dict[str, str]:
    """Lineage tags that `promote` sets on a version; unknown values get no tag."""
    found = {
        "dvc.data": provenance.data_hash(root),
        "dvc.lock": provenance.lock_hash(family, root),
        "git.commit": provenance.commit(root),
        **{f"{BATCH}{name}": md5 for name, md5 in provenance.batches(root).items()},
    }
    return {key: value for key, value in found.items() if value}


def bento_tags(tag: str) -> dict[str, str]:
    """Tag that `package` sets on the version that a Bento was built from."""
    return {f"{BENTO}{tag.partition(':')[2]}": tag}


def trace(name: str, question: str, *, shipped: bool = False) -> list[Lineage]:
    """Every version of the model `name` that matches a Bento's tag, version, alias, digest, commit or file.

    With `shipped` the model that comes with the package is champion, and version, of a registry that has none.
    Raises MienError where nothing does.
    """
    aliases = versions.aliases(name)
    query = aliases.get(question) or re.sub(r"^v(?=\d+$)", "", question)
    file = Path(question)
    if file.is_file():
        query = provenance.file_hash(file)
    known = versions.every(name)
    found = [(version, what) for version in known if (what := matched(version, query))]
    if (ours := shipped_version()) and (what := _matched_shipped(ours, query, first=shipped and not known)):
        found.append((ours, what))
    if not found:
        raise MienError(
            f"Nothing in the registry of {name!r} matches {question!r}. Expected a Bento's tag ({name}:v1-…), a "
            f"version ({', '.join(version.version for version in known[-5:]) or 'none yet'}), an alias, a file of "
            f"data/raw, or at least {SHORTEST} digits of a digest or commit (mien champion lists the versions)."
        )
    return [_lineage(version, what, aliases) for version, what in found]


def _matched_shipped(ours: versions.Version, query: str, *, first: bool) -> str:
    """How `query` finds the model that comes with the package; `first` where the registry has no version of its own."""
    if query == SHIPPED_VERSION or query.partition(":")[2].startswith(f"{SHIPPED_VERSION}-"):
        return SHIPPED_VERSION
    if first and query in {"champion", read_card(SHIPPED).version}:
        return "version"
    return matched(ours, query)


def matched(version: versions.Version, query: str) -> str:
    """Names of the version's fields that match `query`; empty if none does."""
    if query == version.version:
        return "version"
    digests = {**version.tags, "run_id": version.run_id}
    if ":" in query:
        return next(("bento" for key, tag in digests.items() if key.startswith(BENTO) and tag == query), "")
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}(\.dir)?", query.lower()):
        return ""
    known = ("data.digest", "dvc.data", "dvc.lock", "git.commit", "onnx_sha256", "run_id")
    keys = [key for key in digests if key in known or key.startswith(BATCH)]
    return ", ".join(key for key in keys if digests[key].startswith(query.lower()))


def _lineage(version: versions.Version, what: str, aliases: Mapping[str, str]) -> Lineage:
    tags = version.tags
    run = tracking.tags_of(version.run_id) if version.run_id else {}  # the shipped model has none here
    return Lineage(
        version=version.version,
        matched=what,
        family=tags.get("family", ""),
        aliases=tuple(alias for alias, number in aliases.items() if number == version.version),
        run_id=version.run_id,
        git_commit=tags.get("git.commit", ""),
        training_commit=run.get("trained.commit") or run.get("git.commit", ""),
        trained_on=run.get("trained.hardware", ""),
        dvc_lock=tags.get("dvc.lock", ""),
        data_name=tags.get("data.name", ""),
        data_digest=tags.get("data.digest", ""),
        dvc_data=tags.get("dvc.data", ""),
        batches={key.removeprefix(BATCH): md5 for key, md5 in tags.items() if key.startswith(BATCH)},
        onnx_sha256=tags.get("onnx_sha256", ""),
        bentos=tuple(sorted(tag for key, tag in tags.items() if key.startswith(BENTO))),
    )
