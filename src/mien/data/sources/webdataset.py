"""Read WebDataset shards: tar files in which `key.jpg` and `key.cls` (or .txt, .json) stand side by side."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from mien.data.raw import Batch
from mien.data.sources.folders import SUFFIXES, label_names
from mien.data.sources.parts import ROWS, Progress, Row
from mien.data.sources.streaming import Labels, found, split_of, stream
from mien.errors import MienError

LABELS = ("cls", "txt", "json")


def webdataset(
    paths: Sequence[Path],
    label_map: Mapping[str, str] | None = None,
    seed: int = 7,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
) -> Batch:
    """Faces of tar shards or folders of them; a label is a number of FER-2013 or a name (JSON: `label` or `emotion`).

    The split is that of the shard's name or its folder's; what lacks is drawn with `seed`. An interrupted call carries
    on from the folder `kept`.
    """
    labels = Labels(label_names(label_map or {}))
    shards = [shard for path in paths for shard in found(path, ".tar")]
    named = paths[0] if paths[0].is_dir() or len(paths) == 1 else paths[0].parent
    return stream(named, shards, _rows(shards, labels, progress), labels, seed, kept)


def _rows(shards: Sequence[Path], labels: Labels, progress: Progress) -> Iterator[Row]:
    total, before, number = sum(shard.stat().st_size for shard in shards), 0, 0
    for shard in shards:
        try:
            with tarfile.open(shard, "r|*") as tar:
                for key, files in groupby(_files(tar), lambda file: file[0]):
                    number += 1
                    parts = {suffix: content for _, suffix, content in files}
                    origin = f"{shard.name}/{key}"
                    label = labels.number(_label(parts, origin), origin)
                    if label is not None:
                        yield Row(partial(_image, parts, origin), label, split_of(shard), origin)
                    if number % ROWS == 0:
                        progress(number, (before + tar.offset) / total)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise MienError(f"{shard} cannot be read beyond sample {number}: {error}. Download it anew.") from None
        before += shard.stat().st_size


def _files(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Key, suffix and content of every file; as WebDataset has it, a key ends at the first dot of the file's name."""
    for member in tar:
        stream = tar.extractfile(member) if member.isfile() else None
        folder, _, name = member.name.rpartition("/")
        key, _, suffix = name.partition(".")
        if stream and key:
            yield f"{folder}/{key}".lstrip("./"), suffix.lower(), stream.read()
        # The library keeps every header otherwise.
        tar.members = []  # type: ignore[attr-defined]


def _label(parts: Mapping[str, bytes], origin: str) -> str:
    suffix = next((suffix for suffix in LABELS if suffix in parts), None)
    if suffix is None:
        raise MienError(
            f"{origin} has {', '.join(parts)} but no label, expected a .cls, .txt or .json beside the image."
        )
    text = parts[suffix].decode("utf-8", "replace")
    if suffix != "json":
        return text
    try:
        content = json.loads(text)
        return str(content["label"] if "label" in content else content["emotion"])
    except (ValueError, KeyError, TypeError):
        raise MienError(f"{origin}.json is {text[:40]!r}, expected an object with label or emotion.") from None


def _image(parts: Mapping[str, bytes], origin: str) -> bytes:
    image = next((content for suffix, content in parts.items() if f".{suffix}" in SUFFIXES), b"")
    if not image:
        raise MienError(f"{origin} has {', '.join(parts)} but no image, expected one such as .png or .jpg.")
    return image
