"""Write the data card: origin of the faces, exclusions and known issues."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mien.emotions import EMOTIONS, SPLITS
from mien.registry.card import Card, Facts, Section, Table

ORIGINS: Mapping[str, Sequence[str]] = {
    "fer2013": (
        "FER-2013 (Goodfellow et al., Challenges in Representation Learning, 2013): faces that an image search "
        "found for words of emotion, cropped by a face detector and scaled to 48 × 48 gray pixels; people rejected "
        "wrong labels and crops. Those shown were not asked. Mien does not distribute the images: each user brings a "
        "copy from its source, under the terms there.",
        "Its labels are noisy. The authors found people to be right on 65 ± 5% of the faces. On the test split the "
        "labels agree with the plurality of ten FER+ annotators for 64% of the faces: happy 94%, neutral 88%, "
        "surprise 77%, angry 54%, sad 41%, disgust 33%, fear 15%.",
    ),
    "synthetic": (
        "Drawn by Mien itself: seven expressions of a cartoon face. No person is shown and no label is doubtful. They "
        "show that the pipeline works and stand for nothing else.",
    ),
}
"""Origin of a data set, by the prefix of its name."""

UNKNOWN = "Nothing is known here of how these faces were gathered and labelled, or whether those shown agreed."


def make(facts: Facts) -> Card:
    """Write the card of the prepared data."""
    info, validation = facts.info, facts.validation
    passed = bool(validation.get("success")) and validation["data"]["digest"] == info["digest"]
    failed = sum(not one["success"] for one in validation.get("expectations", ()))
    result = (
        f"{len(validation['expectations'])} expectations, {failed} not met."
        if passed
        else "No validation of it is at hand."
    )
    rows = sum(sum(counts.values()) for counts in info["counts"].values())
    return Card(
        title=f"Data card: {info['name']}",
        verdict="Fit to train on" if passed else "Not validated",
        good=passed,
        lead=f"{rows:,} faces after preparation. {result}",
        sections=tuple(_sections(facts)),
    )


def _sections(facts: Facts) -> Iterator[Section]:
    info = facts.info
    result = next((text for name, text in ORIGINS.items() if info["name"].startswith(name)), (UNKNOWN,))
    yield Section("Origin and labels", result)
    if not facts.synthetic:
        yield Section(
            "The people shown",
            [
                "The data do not say who is shown: no age, gender, skin colour or country. How they are spread, and "
                "what a model trained on them gets wrong for whom, cannot be read from them.",
                "A face is personal data. Keep the images out of public places; Mien's repository holds none of them.",
            ],
        )
    yield Section("Faces by emotion", table=_counts(info["counts"]))
    yield Section("What preparation decided", table=_decisions(info))
    yield from _warnings(facts.validation)
    rows = [
        ("digest of pixels, labels and flags", info["digest"]),
        ("DVC's md5 of data/raw", facts.lineage.get("dvc.data", "untracked")),
    ]
    rows += [
        (key.removeprefix("batch."), f"md5 {md5}") for key, md5 in facts.lineage.items() if key.startswith("batch.")
    ]
    yield Section(
        "Identity",
        ["The command mien lineage DIGEST names the models trained on them."],
        table=Table(("", ""), rows, code=True),
    )


def _counts(counts: Mapping[str, Mapping[str, int]]) -> Table:
    splits = [split for split in SPLITS if split in counts]
    rows = [(emotion, *(f"{counts[split].get(emotion, 0):,}" for split in splits)) for emotion in EMOTIONS]
    total = ("all", *(f"{sum(counts[split].values()):,}" for split in splits))
    return Table(("emotion", *splits), [*rows, total])


def _decisions(info: Mapping[str, Any]) -> Table:
    rows = [
        (what, reason, f"{number:,}")
        for what in ("excluded", "flagged")
        for reason, number in info.get(what, {}).items()
    ]
    return Table(("rows", "because of", "number"), rows or [("none", "", "")])


def _warnings(validation: Mapping[str, Any]) -> Iterator[Section]:
    failed = [one for one in validation.get("expectations", ()) if not one["success"]]
    if failed:
        rows = [(one["name"], one["severity"], str(one["observed"]), one["expected"]) for one in failed]
        yield Section(
            "What validation remarked", table=Table(("expectation", "severity", "observed", "expected"), rows)
        )
