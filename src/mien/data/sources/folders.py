"""Faces in class folders: whose name is an emotion, whose parents may name a split."""

import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mien.data.raw import Batch, slug
from mien.data.sources import parts
from mien.data.sources.names import LABEL_MAPS, SKIP, SPLIT_NAMES, SYNONYMS, USAGES
from mien.data.sources.parts import BrokenImageError, Part, Progress, Row
from mien.data.sources.splitting import complete
from mien.emotions import EMOTIONS, SPLITS
from mien.errors import MienError, listed

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff", ".gif"}

OFFICIAL = re.compile(rf"({'|'.join(USAGES)})_\d+")
"""File names in Kaggle's copies of FER-2013, which merge both test splits into one folder."""


class Found(NamedTuple):
    """One image file: its path below the folder, its emotion's label and the split its folders name, if any."""

    path: str
    emotion: int
    split: str | None


def folders(
    path: Path,
    label_map: Mapping[str, str] | None = None,
    seed: int = 7,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
) -> Batch:
    """Images in class folders: Kaggle's FER-2013, CK+48, eNTERFACE-style, or your own.

    Official FER-2013 file names decide the split; else folders named train, validation or test do; else a stratified
    split is drawn with `seed`: 80/10/10, or what lacks is taken from train. People named in file names are kept apart.
    `label_map` extends the folder names understood, `skip` leaving a folder out. What was read stands in the folder
    `kept`, from which an interrupted call carries on.
    """
    if not path.is_dir():
        hint = f"For fer2013.csv run `mien fetch csv {path}`." if path.exists() else "Check the path."
        raise MienError(f"{path} is no folder, expected one with a folder per emotion. {hint}")
    found, notes = _find(path, label_names(label_map or {}))
    rows = parts.keep(path, _parts(path, found, progress), kept)
    splits, name, how = _split(path, found, rows.hashes, seed)
    return rows.batch(name, splits, [*notes, *how])


def _parts(root: Path, found: Sequence[Found], progress: Progress) -> Iterator[Part]:
    def rows(start: int) -> Iterator[Row]:
        for number, file in enumerate(found[start : start + parts.PART], start + 1):
            yield Row(partial(_image, root, file.path), file.emotion, file.split, file.path)
            if number % parts.ROWS == 0:
                progress(number, number / len(found))

    for start in range(0, len(found), parts.PART):
        paths = [file.path for file in found[start : start + parts.PART]]
        yield parts.identity([root / path for path in paths], paths), rows(start)


def _image(root: Path, name: str) -> bytes:
    try:
        data = (root / name).read_bytes()
        _check(data)
    except (OSError, ValueError, SyntaxError, EOFError, Warning) as error:
        reason = getattr(error, "strerror", None) or str(error).split(" <")[0]
        raise BrokenImageError(f"{name} ({reason})") from None
    return data


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
    for folder, names in _files(root):
        words = [_plain(part) for part in PurePosixPath(folder).parts]
        emotion = next((known[word] for word in reversed(words) if word in known), None)
        split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
        for name in names:
            suffix = PurePosixPath(name).suffix
            if suffix.lower() not in SUFFIXES:
                other[suffix or name] += 1
            elif emotion is None:
                unknown[folder or "."] += 1
            elif emotion == SKIP:
                skipped[folder or "."] += 1
            else:
                found.append(Found(f"{folder}/{name}", EMOTIONS.index(emotion), split))
    _refuse(root, found, unknown, other)
    notes = [f"Left out {_counted(skipped)} as the label map says."] if skipped else []
    return found, notes + ([f"Ignored files that are no images: {_counted(other)}."] if other else [])


def _files(root: Path, below: str = "", above: tuple[Path, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Folders at any depth and names of files in them, in the order of their paths: a folder may come in pieces.

    Links are followed, hidden files passed over; a link back to a parent folder ends there.
    """
    place = (root / below).resolve()
    if place in above:
        return
    names = list[str]()
    with os.scandir(root / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith((".", "__MACOSX")) or entry.name in {"Thumbs.db", "desktop.ini"}:
                continue
            if entry.is_dir():
                yield below, names
                names = []
                yield from _files(root, f"{below}/{entry.name}".lstrip("/"), (*above, place))
            else:
                names.append(entry.name)
    yield below, names


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


def _split(root: Path, found: Sequence[Found], copies: Sequence[str], seed: int) -> tuple[list[str], str, list[str]]:
    """Choose each file's split; returns the splits, the data set's name and notes for the user."""
    stems = [PurePosixPath(file.path).stem for file in found]
    official = [OFFICIAL.fullmatch(stem) for stem in stems]
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
    splits, notes = complete([file.split for file in found], [file.emotion for file in found], copies, stems, seed)
    return splits, slug(root.resolve().name), notes


def _refuse_part(root: Path, have: Set[str | None]) -> None:
    missing = [split for split in SPLITS if split not in have]
    if missing:
        raise MienError(f"{root} lacks {' and '.join(missing)}. Pass the folder that holds all splits.")


def _plain(name: str) -> str:
    """Normalise a folder's name for the look-up: lower case, without a number before it (`3_happy`)."""
    return re.sub(r"^\d+[\s._-]+", "", name.strip().lower())


def _counted(counts: Mapping[str, int]) -> str:
    return listed([f"{name} ({n})" for name, n in counts.items()])
