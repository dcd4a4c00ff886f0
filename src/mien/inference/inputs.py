"""What may be handed over as a photo: paths, bytes, open files, Pillow images and arrays."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.errors import MienError
from mien.inference import photos


class Readable(Protocol):
    """An open binary file, or whatever is read like one."""

    def read(self) -> bytes:
        """All of its bytes."""


PhotoLike: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | NDArray[Any]
Loaded: TypeAlias = bytes | Image.Image | NDArray[Any]


def load(image: PhotoLike) -> Loaded:
    """What was handed over, in memory: files are read, nothing is decoded. Raises MienError for what is no photo."""
    if isinstance(image, np.ndarray | Image.Image):
        return image
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _read_path(image)
    if hasattr(image, "read"):
        return _read_file(image)
    several = " For several photos pass a list, or call stream." if isinstance(image, Iterable) else ""
    raise MienError(
        f"The photo is {type(image).__name__}, expected a path, bytes, an open file, a Pillow image or a NumPy array."
        f"{several}"
    )


def check_several(images: object) -> None:
    """Raise MienError for one photo where several are wanted: a path would be taken letter by letter."""
    one = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image | np.ndarray)
    if one or hasattr(images, "read") or not isinstance(images, Iterable):
        raise MienError(f"The photos are one {type(images).__name__}, expected several. Pass a list, or call predict.")


def decode(loaded: Loaded, name: str = "", enough: int | None = None) -> photos.Photo:
    """The pixels of a photo; those of a large JPEG at less than its size where `enough` are requested.

    Raises MienError, which begins with the photo's `name` where it has one.
    """
    try:
        if isinstance(loaded, bytes):
            return photos.read(loaded, enough)
        pixels = photos.from_image(loaded) if isinstance(loaded, Image.Image) else photos.from_array(loaded)
    except MienError as error:
        raise type(error)(f"{name}: {error}" if name else str(error)) from error
    return photos.Photo(pixels, (pixels.shape[1], pixels.shape[0]))


def name_of(image: object) -> str:
    """The name of the file that a photo is or was opened from, empty where there is none."""
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return name if isinstance(name, str) else ""


def _read_file(file: Readable) -> bytes:
    try:
        data: object = file.read()
    except (OSError, ValueError) as error:
        raise MienError(f"Cannot read the photo's open file: {error}. Open it anew, in mode 'rb'.") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise MienError(f"The photo's open file gave {type(data).__name__}, expected bytes. Open it in mode 'rb'.")
    return bytes(data)


def _read_path(path: str | os.PathLike[str]) -> bytes:
    if isinstance(path, str) and path.lower().startswith(("http://", "https://")):
        raise MienError(f"{path} is an address, and predict reads no network. Call predict_url with it instead.")
    most = photos.MAX_MIB * photos.MIB
    try:
        with Path(path).open("rb") as file:
            size, data = os.fstat(file.fileno()).st_size, b""
            if size == 0:  # also of pipes and devices
                data = file.read(most + 1)
            elif size <= most:
                data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MienError(f"Cannot read the photo {path}: {reason}. Pass a file, its bytes, or an array.") from error
    if max(size, len(data)) > most:
        raise photos.TooLargeError(f"{path} is larger than {photos.MAX_MIB} MiB. Save it smaller.")
    return data
