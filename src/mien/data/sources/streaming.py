"""What Parquet files and tar shards have in common: labels by name or number, splits by the names of files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mien.data.raw import Batch, slug
from mien.data.sources.names import SKIP, SPLIT_NAMES, SYNONYMS
from mien.data.sources.parts import Row, keep, numbered
from mien.data.sources.splitting import complete
from mien.emotions import EMOTIONS
from mien.errors import MienError


@dataclass
class Labels:
    """What stands for each emotion: its number as in FER-2013, its names, and what `extra` adds; `skipped` counts."""

    extra: Mapping[str, str] = field(default_factory=dict)
    skipped: int = 0

    def number(self, text: str, origin: str) -> int | None:
        """The label, or None for one that is left out; an unknown one raises MienError naming its row."""
        name = text.strip().lower()
        emotion = self.extra.get(name) or SYNONYMS.get(name)
        if emotion == SKIP:
            self.skipped += 1
            return None
        if emotion:
            return EMOTIONS.index(SYNONYMS[emotion])
        if name.isdecimal() and int(name) < len(EMOTIONS):
            return int(name)
        known = ", ".join(f"{label} {name}" for label, name in enumerate(EMOTIONS))
        raise MienError(
            f"{origin}: label {text[:20]!r}, expected one of {known}; map it: --label-map {name[:20]}=skip."
        )


def found(path: Path, suffix: str) -> list[Path]:
    """The file `path`, or all of that suffix below the folder `path`, in order."""
    files = sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path] if path.exists() else []
    if not files:
        raise MienError(f"{path} holds no {suffix} files, expected one or a folder of them. Check the path.")
    return files


def split_of(path: Path) -> str | None:
    """The split that a file's name begins with, such as `train-00000-of-00004.parquet`, or that of its folder."""
    words = (path.stem.lower().replace("_", "-").partition("-")[0], path.parent.name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def stream(
    path: Path, files: Sequence[Path], rows: Iterator[Row], labels: Labels, seed: int, kept: Path | None
) -> Batch:
    """Make a batch of the rows of `files`; splits that none of them has are drawn with `seed`."""
    found = keep(path, numbered(rows, files, sorted(labels.extra.items())), kept)
    if not found.emotions:
        raise MienError(f"{path} holds no faces.")
    stems = [Path(origin).name for origin in found.origins]
    splits, notes = complete(found.given, found.emotions, found.hashes, stems, seed)
    notes += [f"Left out {labels.skipped:,} rows as the label map says."] if labels.skipped else []
    return found.batch(slug(path.name if path.is_dir() else path.stem), splits, notes)
