"""Faces in class folders: whose name is an emotion, whose parents may name a split."""

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from mien.data.raw import Batch, batch, slug
from mien.data.sources.names import LABEL_MAPS, SKIP, SPLIT_NAMES, SYNONYMS, USAGES
from mien.data.sources.splitting import complete
from mien.emotions import EMOTIONS, SPLITS
from mien.errors import MienError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff", ".gif"}

OFFICIAL = re.compile(rf"({'|'.join(USAGES)})_\d+")
"""File names in Kaggle's copies of FER-2013, which merge both test splits into one folder."""

LISTED = 6
"""How many names a message lists."""


@dataclass(frozen=True)
class Found:
    """One image file: its path below the folder, its emotion's label and the split its folders name, if any."""

    path: Path
    emotion: int
    split: str | None


def folders(path: Path, label_map: Mapping[str, str] | None = None, seed: int = 7) -> Batch:
    """Images in class folders: Kaggle's FER-2013, CK+48, eNTERFACE-style, or your own.

    Official FER-2013 file names decide the split; else folders named train, validation or test do; else a stratified
    split is drawn with `seed`: 80/10/10, or what lacks is taken from train. People named in file names are kept apart.
    `label_map` extends the folder names understood, `skip` leaving a folder out.
    """
    if not path.is_dir():
        hint = f"For fer2013.csv run `mien fetch csv {path}`." if path.exists() else "Check the path."
        raise MienError(f"{path} is no folder, expected one with a folder per emotion. {hint}")
    found, notes = _find(path, label_names(label_map or {}))
    images = _read(path, [file.path for file in found])
    splits, name, how = _split(path, found, images, seed)
    origins = [file.path.as_posix() for file in found]
    return batch(name, images, [file.emotion for file in found], splits, origins, [*notes, *how])


def label_names(label_map: Mapping[str, str]) -> dict[str, str]:
    """What a label map adds to the known names; an emotion that is none is an error."""
    for name, emotion in label_map.items():
        if emotion != SKIP and emotion not in SYNONYMS:
            raise MienError(f"Label map {name}={emotion}: expected one of {', '.join(EMOTIONS)} or skip.")
    return {_plain(name): SYNONYMS.get(emotion, emotion) for name, emotion in label_map.items()}


def _find(root: Path, extra: Mapping[str, str]) -> tuple[list[Found], list[str]]:
    """Every image below `root` with its emotion, in path order; folders that name none are an error listing them."""
    found, unknown, other, skipped = list[Found](), Counter[str](), Counter[str](), Counter[str]()
    known = {**SYNONYMS, **extra}
    for path in sorted(_files(root)):
        below = path.relative_to(root)
        if below.suffix.lower() not in SUFFIXES:
            other[below.suffix or below.name] += 1
            continue
        parts = [_plain(part) for part in below.parts[:-1]]
        emotion = next((known[part] for part in reversed(parts) if part in known), None)
        split = next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), None)
        if emotion is None:
            unknown[below.parent.as_posix()] += 1
        elif emotion == SKIP:
            skipped[below.parent.as_posix()] += 1
        else:
            found.append(Found(below, EMOTIONS.index(emotion), split))
    _refuse(root, found, unknown, other)
    notes = [f"Left out {_counted(skipped)} as the label map says."] if skipped else []
    return found, notes + ([f"Ignored files that are no images: {_counted(other)}."] if other else [])


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Files at any depth, links followed, hidden ones passed over; a link back to a parent folder ends there."""
    place = folder.resolve()
    for entry in folder.iterdir() if place not in above else ():
        if entry.name.startswith((".", "__MACOSX")) or entry.name in {"Thumbs.db", "desktop.ini"}:
            continue
        if entry.is_dir():
            yield from _files(entry, (*above, place))
        else:
            yield entry


def _refuse(root: Path, found: Sequence[Found], unknown: Mapping[str, int], other: Mapping[str, int]) -> None:
    if "." in unknown:
        raise MienError(f"{root} itself holds {unknown['.']} images. Put each into a folder named after its emotion.")
    if unknown:
        names = [_plain(Path(folder).name) for folder in unknown]
        numbers = f" The numbers of {' or '.join(LABEL_MAPS)}: --label-map {next(iter(LABEL_MAPS))}."
        raise MienError(
            f"Folders in {root} that name no emotion: {_counted(unknown)}. Expected {', '.join(EMOTIONS)} or a common "
            f"synonym. Map each one: --label-map {names[0]}=happy, or --label-map {names[0]}=skip to leave it out."
            f"{numbers if all(map(str.isdigit, names)) else ''}"
        )
    if not found:
        what = f", only {_counted(other)}" if other else ""
        raise MienError(f"{root} holds no images in class folders{what}. Expected such as {root}/happy/1.jpg.")


def _read(root: Path, paths: Sequence[Path]) -> list[bytes]:
    """Read the files' bytes; those that cannot be read or decoded are an error naming the first ones."""
    images, broken = [], []
    for path in paths:
        try:
            images.append((root / path).read_bytes())
            _check(images[-1])
        except (OSError, ValueError, SyntaxError, EOFError, Warning) as error:
            reason = getattr(error, "strerror", None) or str(error).split(" <")[0]
            broken.append(f"{path.as_posix()} ({reason})")
    if broken:
        raise MienError(
            f"{len(broken)} of {len(paths)} images in {root} cannot be read: {_listed(broken)}. "
            "Replace or delete them, then run this again."
        )
    return images


def _check(data: bytes) -> None:
    """Decode wholly with Pillow: unlike OpenCV it does not fill up a truncated JPEG with gray."""
    from PIL import Image

    if not data:
        raise ValueError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(data)).load()
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None


def _split(root: Path, found: Sequence[Found], images: Sequence[bytes], seed: int) -> tuple[list[str], str, list[str]]:
    """Choose each file's split; returns the splits, the data set's name and notes for the user."""
    official = [OFFICIAL.fullmatch(file.path.stem) for file in found]
    if all(official):
        splits = [USAGES[match[1]] for match in official if match]
        _refuse_part(root, set(splits))
        return splits, "fer2013", ["Splits taken from the file names, as FER-2013's challenge drew them."]
    have = {file.split for file in found}
    if None in have and len(have) > 1:
        file = next(file.path for file in found if file.split is None)
        raise MienError(f"{root} has split folders, but {file} lies outside them. Move it into one.")
    if None not in have:
        _refuse_part(root, have | {"validation", "test"})
    # Exact copies stay together: one in train and one in test would be a leak.
    copies = [hashlib.sha256(image).hexdigest() for image in images]
    stems, labels = [file.path.stem for file in found], [file.emotion for file in found]
    splits, notes = complete([file.split for file in found], labels, copies, stems, seed)
    return splits, slug(root.resolve().name), notes


def _refuse_part(root: Path, have: Set[str | None]) -> None:
    missing = [split for split in SPLITS if split not in have]
    if missing:
        raise MienError(f"{root} lacks {' and '.join(missing)}. Pass the folder that holds all splits.")


def _plain(name: str) -> str:
    """Normalise a folder's name for the look-up: lower case, without a number before it (`3_happy`)."""
    return re.sub(r"^\d+[\s._-]+", "", name.strip().lower())


def _counted(counts: Mapping[str, int]) -> str:
    return _listed([f"{name} ({n})" for name, n in counts.items()])


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return ", ".join(items[:LISTED]) + more
