"""YuNet's model file: where it lies, and how it is fetched once."""

import hashlib
import io
import os
import threading
from pathlib import Path

from mien.errors import MienError
from mien.files import write_file

YUNET_VARIABLE = "MIEN_YUNET"
CACHE_VARIABLE = "MIEN_CACHE"
URL_VARIABLE = "MIEN_DETECTOR_URL"
YUNET_FILE = "yunet.onnx"
SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
URL = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/47534e27c9851bb1128ccc0102f1145e27f23f98"
    "/models/face_detection_yunet/face_detection_yunet_2026may.onnx"
)
"""OpenCV's zoo at a fixed commit: YuNet of May 2026, 230 kB, MIT licence."""

SECONDS = 30.0


def yunet_file(folder: Path | None = None) -> Path | None:
    """The file that MIEN_YUNET names, else `yunet.onnx` in `folder`, else the one that was fetched, else None."""
    if named := os.environ.get(YUNET_VARIABLE):
        return Path(named)
    places = [folder / YUNET_FILE] if folder else []
    return next((path for path in (*places, cached()) if path.is_file()), None)


def cached() -> Path:
    """Where a fetched file is kept: in MIEN_CACHE, else `mien` in the user's folder for caches."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser() / YUNET_FILE
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mien" / YUNET_FILE


def fetch(source: str | None = None, sha256: str | None = None, seconds: float = SECONDS) -> Path:
    """Bring the file from an address or a path to the cache and answer where it lies.

    Without a `source` it comes from the mirror that MIEN_DETECTOR_URL names, else from OpenCV's zoo, and must be the
    pinned file unless `sha256` names another. Raises MienError where it cannot be had within `seconds` or is not the
    one; the cache is left as it was.
    """
    source, sha256 = source or os.environ.get(URL_VARIABLE) or URL, sha256 or SHA256
    data = _download(source, seconds) if source.startswith(("http://", "https://")) else _read(Path(source))
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise MienError(
            f"{source} has the SHA-256 {found}, expected {sha256}. "
            "Fetch the named file, or pass the --sha256 of the one that you trust."
        )
    target = cached()
    write_file(target, lambda path: path.write_bytes(data))
    return target


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MienError(f"Cannot read {path}: {error.strerror or error}. Pass YuNet's ONNX file.") from error


def _download(url: str, seconds: float) -> bytes:
    import pooch

    target, failures = io.BytesIO(), list[Exception]()

    def work() -> None:
        try:
            # Its digest is checked by `fetch`, which says how to mend a wrong one.
            pooch.HTTPDownloader(timeout=seconds)(url, target, None)
        # requests and urllib3 each raise exceptions of their own.
        except Exception as error:
            failures.append(error)

    # Their time limits know neither name servers nor answers that trickle; a thread left alone ends with the process.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive() or failures:
        reason = type(failures[0]).__name__ if failures else f"not there after {seconds:g} s"
        raise MienError(
            f"Cannot download {url} ({reason}). Mend the network, or fetch the file elsewhere and "
            f"name it: mien fetch detector --from FILE, or {YUNET_VARIABLE}=FILE."
        )
    return target.getvalue()
