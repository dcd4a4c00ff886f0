"""Write files atomically: to a temporary file beside the target, then renamed over it."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from mien.errors import MienError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` at the end; on failure `path` is left as it was.

    Raises MienError where the folder cannot be written or the disk is full.
    """
    # The name stays last: writers such as Keras and Matplotlib choose the format by its ending.
    temporary = path.with_name(f".{uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        # Libraries put long texts into strerror; the system has a short one for each errno.
        reason = os.strerror(error.errno) if error.errno else error
        raise MienError(f"Cannot write {path}: {reason}. Free the disk or mend the rights.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold `folder` for this process until the block ends; yields whether that could be done.

    The lock dies with its process, so that none is ever left behind.
    """
    import fcntl  # which Windows lacks, where photos are answered all the same

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        except BlockingIOError:
            ours = False
        yield ours
    finally:
        os.close(handle)


@contextmanager
def alone_in(folder: Path, busy: str) -> Iterator[None]:
    """Hold `folder` for this process; raises MienError saying `busy` where another does."""
    with locked(folder) as ours:
        if not ours:
            raise MienError(busy)
        yield


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it to `path`, as `replacing` does."""
    with replacing(path) as temporary:
        write(temporary)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    write_file(path, lambda target: target.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON with a final newline; NaN and infinity are refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def rounded(content: Any) -> Any:
    """JSON content with every float to six digits: more would change with the processor and clutter every diff."""
    if isinstance(content, Mapping):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    return round(content, 6) if isinstance(content, float) else content


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a JSON object; the error for a missing or broken file names the command that makes it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MienError(f"{path} is missing. Make it with `{made_by}`.") from None
    except json.JSONDecodeError as error:
        raise MienError(f"{path} is not valid JSON ({error}). Make it anew with `{made_by}`.") from None
    if not isinstance(content, dict):
        raise MienError(f"{path} holds {type(content).__name__}, expected an object. Make it anew with `{made_by}`.")
    return content


def swap(fresh: Path, target: Path) -> None:
    """Put the folder `fresh` where the folder `target` is; if that fails, the old one is put back."""
    old = fresh.parent / "old"
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
