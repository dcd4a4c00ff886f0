"""Append-only promotion log in MLflow, which determines the champion, and the aliases that are set from it.

Each entry is one version of the registered model `<name>-promotions`, created in one request, with a number that the
store assigns. This is MLflow's only operation that appends, is ordered and is atomic; tags and aliases are overwritten
by the last writer, and runs are ordered by their writers' clocks.

An entry that changes the champion (a move) holds the number of the last move that its writer had read. It is valid if
that was still the last one when the store assigned its number, else it is void, so that all readers get the same
champion. The aliases are set from the log after the entry; a reader that finds them outdated sets them, so that a crash
in between loses nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal
from uuid import uuid4

from mien.errors import MienError
from mien.inference.champion import SHIPPED_VERSION
from mien.registry import provenance
from mien.registry.tracking import versions

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ABOUT = "Mien's promotion log: each version is one entry, and its tags say who did what and why. Delete none."
TRIES = 20


@dataclass(frozen=True)
class Entry:
    """One entry of the log: `version` was promoted, restored or refused, against the champion of that time.

    `number` and `when` (ms since 1970) are the store's, `after` is the number of the last move the writer had read,
    `facts` holds both scores, the tests and every rule's result.
    """

    kind: Literal["promotion", "rollback", "refusal"]
    version: str
    champion: str | None
    after: int
    why: str
    who: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    number: int = 0
    when: int = 0
    void: bool = False

    @property
    def moves(self) -> bool:
        """Whether the entry changes the champion."""
        return self.kind != "refusal" and not self.void


@dataclass(frozen=True)
class Log:
    """All entries in order, the champions in order of succession, and those withdrawn by a rollback."""

    entries: tuple[Entry, ...] = ()
    succession: tuple[str, ...] = ()
    withdrawn: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def champion(self) -> str | None:
        """The champion's version."""
        return self.succession[-1] if self.succession else None

    @property
    def previous(self) -> str | None:
        """The version that a rollback restores."""
        return self.succession[-2] if len(self.succession) > 1 else None

    @property
    def head(self) -> int:
        """The number of the last move."""
        return next((entry.number for entry in reversed(self.entries) if entry.moves), 0)

    def entry(self, id_: str) -> Entry:
        """The entry of that id."""
        return next(entry for entry in self.entries if entry.id == id_)


def fold(entries: Sequence[Entry], adopted: Sequence[str] = ()) -> Log:
    """Derive the champions from the entries; `adopted` are champions from before the log, used until its first move."""
    head, succession, judged = 0, list(adopted), list[Entry]()
    withdrawn: dict[str, Entry] = {}
    for entry in entries:
        result = replace(entry, void=entry.kind != "refusal" and entry.after != head)
        judged.append(result)
        if not result.moves:
            continue
        if not head:
            succession = [entry.champion] if entry.champion else []
        head = entry.number
        if entry.kind == "rollback":
            # Back to that version's last place; a version out of the succession replaces the champion.
            places = [place for place, version in enumerate(succession) if version == entry.version]
            keep = places[-1] if places else len(succession) - 1
            withdrawn |= dict.fromkeys(succession[keep:], result)
            succession = succession[:keep]
        withdrawn.pop(entry.version, None)
        succession.append(entry.version)
    return Log(tuple(judged), tuple(succession), withdrawn)


def read(name: str) -> Log:
    """The log of the model `name`."""
    entries = [_entry(version) for version in versions.every(_log(name))]
    known = {} if any(entry.kind != "refusal" for entry in entries) else versions.aliases(name)
    return fold(entries, [known[alias] for alias in (PREVIOUS, CHAMPION) if alias in known])


def append(name: str, entry: Entry) -> Entry:
    """Append an entry and return it as read back: with its number, and void where another move came first."""
    named = replace(entry, id=uuid4().hex, who=entry.who or provenance.who())
    tags = {key: value for key, value in asdict(named).items() if key not in ("number", "when", "void", "facts")}
    texts = {key: str(value) for key, value in tags.items() if value is not None}
    # The store knows no version of the shipped champion: an entry that restores it hangs on the one that it replaces.
    about = entry.champion if entry.version == SHIPPED_VERSION else entry.version
    versions.append(_log(name), name, str(about), texts | {"facts": json.dumps(entry.facts)}, ABOUT)
    return read(name).entry(named.id)


def settle(name: str) -> bool:
    """Set the aliases from the log; returns whether any had to be changed.

    The log is read again after every change, until nothing is left to change: the writer of the last change has then
    read the newest entry, even if another process appended one in between.
    """
    moved = False
    for _ in range(TRIES):
        log = read(name)
        if not _apply(name, log):
            return moved
        moved = True
    raise MienError(f"The aliases of {name!r} keep being moved by others. Repeat the command when that is over.")


def challenge(name: str, version: str) -> None:
    """Point the alias `challenger` to a version before the promotion gate evaluates it."""
    if versions.aliases(name).get(CHALLENGER) != version:
        versions.set_alias(name, CHALLENGER, version)


def rollback(name: str, why: str, to: str | None = None) -> Entry:
    """Restore the previous champion, or the former champion `to`; the present one is withdrawn.

    Raises MienError where there is nothing to restore, or where another move came first.
    """
    log = read(name)
    version = to or log.previous
    if log.champion is None or version is None:
        raise MienError(f"There is no champion of {name!r} to go back to: the log knows {_champions(log)}.")
    if version == log.champion:
        subject = "The shipped model" if version == SHIPPED_VERSION else f"Version {version} of {name!r}"
        raise MienError(f"{subject} is champion already.")
    if version not in {*log.succession, *log.withdrawn}:
        raise MienError(f"Version {version} of {name!r} was never champion: the log knows {_champions(log)}.")
    entry = append(name, Entry("rollback", version, log.champion, log.head, why))
    if entry.void:
        raise MienError(f"Another move of the champion of {name!r} came first. Look at `mien champion`, then repeat.")
    settle(name)
    return entry


def _apply(name: str, log: Log) -> bool:
    """Set the aliases once; `previous` first, so that a rollback is possible as soon as the new champion serves."""
    known, wanted = versions.aliases(name), {PREVIOUS: log.previous, CHAMPION: log.champion}
    changed = False
    for alias, version in wanted.items():
        if version not in {None, SHIPPED_VERSION} and known.get(alias) != version:
            versions.set_alias(name, alias, str(version))
            changed = True
    stale = [PREVIOUS] if PREVIOUS in known and log.previous in {None, SHIPPED_VERSION} else []
    stale += [CHAMPION] if CHAMPION in known and log.champion == SHIPPED_VERSION else []
    stale += [CHALLENGER] if log.champion and known.get(CHALLENGER) == log.champion else []
    for alias in stale:
        versions.drop_alias(name, alias)
    return changed or bool(stale)


def _with_current_keys(found: dict[str, Any]) -> dict[str, Any]:
    """Entries of earlier versions call a rule's message `told`."""
    return {"message" if key == "told" else key: value for key, value in found.items()}


def _entry(version: versions.Version) -> Entry:
    tags = version.tags
    try:
        return Entry(
            kind=tags["kind"],  # type: ignore[arg-type]
            version=tags["version"],
            champion=tags.get("champion"),
            after=int(tags["after"]),
            why=tags.get("why", ""),
            who=tags.get("who", ""),
            facts=json.loads(tags.get("facts", "{}"), object_hook=_with_current_keys),
            id=tags["id"],
            number=int(version.version),
            when=version.created,
        )
    except (KeyError, ValueError) as error:
        raise MienError(
            f"Entry {version.version} of the promotion log cannot be read ({error!r}): it was not written by `mien`, "
            "or its tags were changed. Mend them in MLflow."
        ) from None


def _log(name: str) -> str:
    return f"{name}-promotions"


def _champions(log: Log) -> str:
    return ", ".join(map(named, (*log.succession, *log.withdrawn))) or "none"


def named(version: str) -> str:
    """A version in a sentence: its number, or that it is the shipped one."""
    return "the shipped model" if version == SHIPPED_VERSION else f"version {version}"
