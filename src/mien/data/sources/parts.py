"""Read and check many image files in parts, each kept in a file of its own, so that an interrupted reading resumes."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from mien.data.sources.streaming import ROWS, Images, Progress, write_images
from mien.errors import MienError, listed
from mien.files import write_file

PART = 2**13
"""Files of one part, and the most that have to be read again."""


class BrokenError(Exception):
    """Some image of a part cannot be read, so that the part is not kept."""


def read(root: Path, names: Sequence[str], kept: Path, progress: Progress) -> Images:
    """The files `names` below `root`, each decoded once; those in unchanged parts in the folder `kept` are not read.

    Raises MienError that names the first files that cannot be read or decoded.
    """
    slices = [names[start : start + PART] for start in range(0, len(names), PART)]
    wanted = {kept / f"{_identity(root, some)}.arrow": some for some in slices}
    for stale in set(kept.glob("*")) - set(wanted):
        stale.unlink()  # of other files, or half-written
    broken, done = list[str](), 0
    for path, some in wanted.items():
        if not path.exists():
            broken += _write(path, root, some, lambda n, done=done: progress(done + n, (done + n) / len(names)))  # type: ignore[misc]
        done += len(some)
    if broken:
        raise MienError(
            f"{len(broken)} of {len(names)} images in {root} cannot be read: {listed(broken)}. "
            "Replace or delete them, then run this again."
        )
    with ExitStack() as stack:
        return Images.mapped([stack.enter_context(path.open("rb")) for path in wanted])


def _identity(root: Path, names: Sequence[str]) -> str:
    """Changes with the files' place, names, sizes and times."""
    sha = hashlib.sha256(str(root.resolve()).encode())
    for name in names:
        with suppress(OSError):
            status = (root / name).stat()
            sha.update(f"\n{name} {status.st_size} {status.st_mtime_ns}".encode(errors="surrogateescape"))
    return sha.hexdigest()


def _write(path: Path, root: Path, names: Sequence[str], progress: Callable[[int], None]) -> list[str]:
    """Write one part, or return which of its images cannot be read."""
    broken = list[str]()

    def images() -> Iterator[bytes]:
        for number, name in enumerate(names, start=1):
            if number % ROWS == 0:
                progress(number)
            try:
                data = (root / name).read_bytes()
                _check(data)
                yield data
            except (OSError, ValueError, SyntaxError, EOFError, Warning) as error:
                reason = getattr(error, "strerror", None) or str(error).split(" <")[0]
                broken.append(f"{name} ({reason})")

    def write(target: Path) -> None:
        with target.open("wb") as file:
            write_images(file, images())
            # Else a power cut could leave the file's name without its content.
            os.fsync(file.fileno())
        if broken:
            raise BrokenError

    with suppress(BrokenError):
        write_file(path, write)
    return broken


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
