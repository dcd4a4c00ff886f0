"""Photos on disk: which files are some, and where their annotated copies go."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mien.errors import MienError
from mien.files import write_file
from mien.inference.drawing import annotate
from mien.inference.inputs import decode, load
from mien.inference.photos import register_heif

ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".heic": "HEIF", ".heif": "HEIF",
           ".avif": "AVIF", ".gif": "GIF", ".bmp": "BMP",
           ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM"}  # fmt: skip
"""File endings that count as photos in folders and globs, and the format that an annotated copy has."""


@dataclass
class Found:
    """The photos to process, in order and each once, and a message for each path that leads to none."""

    photos: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def collect(paths: Sequence[str], without: Path | None = None) -> Found:
    """Find the photos that paths mean.

    A file is taken as it is. A folder gives the files below it that end like a photo (ENDINGS), by name, without
    hidden ones and without the folder `without`. A path that does not exist and has `*`, `?` or `[` is a glob.
    """
    found, seen = Found(), set()
    for path in paths:
        unreadable: list[OSError] = []
        photos = list(_expand(path, without, unreadable))
        found.problems += [f"{error.filename}: cannot be searched ({error.strerror})." for error in unreadable]
        if not photos and not unreadable and (Path(path).is_dir() or not _literal(path)):
            found.problems.append(f"{path}: no photo is there, expected files that end in {', '.join(ENDINGS)}.")
        for photo in photos:
            if (place := photo.absolute()) not in seen:
                seen.add(place)
                found.photos.append(photo)
    return found


def targets(photos: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each photo's annotated copy goes: its path below the folder that all photos share, below `folder`.

    Raises MienError where a copy would take an original's place, or another copy's.
    """
    places = [Path(os.path.normpath(photo.absolute())) for photo in photos]
    root = os.path.commonpath([place.parent for place in places])
    copies: dict[Path, Path] = {}
    taken = {place.resolve(): place for place in places}
    for photo, place in zip(photos, places, strict=True):
        name = place.name if place.suffix.lower() in ENDINGS else f"{place.name}.png"
        target = folder / place.parent.relative_to(root) / name
        if target.resolve() in taken:
            raise MienError(
                f"--annotate {folder}: the copy of {photo} would take the place of {taken[target.resolve()]}. "
                "Name another folder."
            )
        taken[target.resolve()] = target
        copies[photo] = target
    return copies


def write_copy(photo: Path, faces: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write a photo with its faces drawn on it."""
    drawn = Image.fromarray(annotate(decode(load(photo)).pixels, faces))
    kind = ENDINGS[target.suffix.lower()]
    register_heif()
    options = {"quality": 92} if kind in {"JPEG", "WEBP"} else {}
    write_file(target, lambda path: drawn.save(path, kind, **options))


def _expand(path: str, without: Path | None, unreadable: list[OSError]) -> Iterator[Path]:
    if Path(path).is_dir():
        yield from _below(Path(path), without, unreadable)
    elif _literal(path):
        yield Path(path)
    else:
        for match in sorted(glob.glob(path, recursive=True)):  # noqa: PTH207 (Path.glob knows no absolute patterns)
            if Path(match).suffix.lower() in ENDINGS and not Path(match).is_dir():
                yield Path(match)


def _below(folder: Path, without: Path | None, unreadable: list[OSError]) -> Iterator[Path]:
    left_out = without.resolve() if without else None
    for place, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and Path(place, n).resolve() != left_out)
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS:
                yield Path(place, name)


def _literal(path: str) -> bool:
    """Whether a path means itself: brackets in the name of a file that exists are no pattern."""
    return Path(path).exists() or not glob.has_magic(path)
