"""Turn whatever bytes someone calls a photo into upright 8-bit RGB pixels."""

import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mien.errors import MienError

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""What is read. Pillow knows more, but its rarer readers are where hostile files find their bugs."""

MAX_PIXELS = 50_000_000
"""Largest photo: what a 50-megapixel camera takes, 150 MB once decoded."""

MIB = 2**20

MAX_MIB = 512
"""Largest file: as many pixels with four channels of 16 bits fit."""


ENOUGH_ROWS = 0.9
"""Share of its rows from which a photo that is cut off is answered with what is there."""

FULL = 255
"""White."""


class UnknownFormatError(MienError):
    """The bytes are no image of a format that is read."""


class TooLargeError(MienError):
    """The image is larger than what is decoded."""


@dataclass(frozen=True)
class Photo:
    """Upright RGB pixels (h, w, 3) uint8, perhaps fewer than the photo has, and the photo's own width and height.

    `warning` says what is missing of one that is cut off at its very end.
    """

    pixels: Pixels
    size: tuple[int, int]
    warning: str = ""

    @property
    def scale(self) -> float:
        """The pixels' width as a share of the photo's: 0.5 for a photo read at half its size."""
        return float(self.pixels.shape[1] / self.size[0])


def decode(data: bytes) -> Pixels:
    """RGB pixels (h, w, 3) uint8, upright by EXIF, of the first frame; transparency lies on white.

    Raises UnknownFormatError, TooLargeError, or MienError for a broken image.
    """
    return read(data).pixels


def read(data: bytes, enough: int | None = None) -> Photo:
    """The same, where a JPEG may come at 1/2, 1/4 or 1/8 of its size as long as its longest side is `enough`.

    It is unfolded at that size, which takes a third of the time for a photo of 12 megapixels.
    A JPEG or PNG that is cut off after ENOUGH_ROWS of its rows is read, with a warning; the missing rows are black.
    """
    if not data:
        raise UnknownFormatError("The photo is empty (0 bytes). Send a JPEG, PNG, WebP or HEIC file.")
    try:
        register_heif()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            _check_size(width, height)
            if enough and image.format == "JPEG" and max(image.size) >= 2 * enough:
                longest = max(image.size)
                image.draft(image.mode, (max(1, width * enough // longest), max(1, height * enough // longest)))
            warning = _load(image)
            as_stored = image.size
            ImageOps.exif_transpose(image, in_place=True)  # elsewhere it copies every photo, turned or not
            return Photo(_rgb(image), (width, height) if image.size == as_stored else (height, width), warning)
    except UnidentifiedImageError:
        raise UnknownFormatError(
            f"The {len(data)} bytes are no image that can be read. Send one of {', '.join(FORMATS)}."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(f"The photo has more than {MAX_PIXELS // 10**6} megapixels. Send a smaller one.") from None
    except MienError:
        raise
    # Broken files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, KeyError, MemoryError.
    except Exception as error:
        reason = " ".join(str(error).split())  # some have line breaks
        raise MienError(f"The photo is damaged or cut off ({reason}). Save it anew and try again.") from error


def _load(image: ImageFile.ImageFile) -> str:
    """Decode an image that Pillow has opened; gives the warning for one that is cut off at its very end."""
    try:
        image.load()
    except OSError as error:
        # What Pillow has read by now stays in the image, which would else be read anew, and fail again.
        image.tile = []
        share = _rows_read(image) / image.height
        if "truncated" not in str(error) or share < ENOUGH_ROWS:
            raise
        return f"The photo is cut off: {int(100 * share)}% of its rows are there, the others are black."
    return ""


def _rows_read(image: ImageFile.ImageFile) -> int:
    """How many rows are there, from the last that is not all 0, which is what unread ones are.

    0 for formats that are not stored from top to bottom, once.
    """
    # Progressive JPEGs that are cut off have no rows yet.
    if image.format not in {"JPEG", "PNG"} or image.info.get("interlace"):
        return 0
    filled = image.getbbox(alpha_only=False)
    return filled[3] if filled else 0


@functools.cache
def register_heif() -> None:
    """Let Pillow read HEIC and HEIF, as iPhones write them; what else such a file carries stays unread."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def from_array(array: NDArray[Any]) -> Pixels:
    """RGB pixels of a gray (h, w) or (h, w, 1), RGB (h, w, 3) or RGBA (h, w, 4) array, red first.

    Whole numbers are uint8. Floats are in [0, 1] where none is above 1, else in [0, 255]. Raises MienError for others.
    """
    array = np.asarray(array)
    squeezed = array[:, :, 0] if array.shape[2:] == (1,) else array
    floats = np.issubdtype(array.dtype, np.floating)
    if (
        (array.dtype != np.uint8 and not floats)
        or array.ndim not in {2, 3}
        or squeezed.shape[2:] not in {(), (3,), (4,)}
        or array.size == 0
    ):
        raise MienError(
            f"The photo is an array of shape {array.shape} and dtype {array.dtype}, "
            f"expected (h, w), (h, w, 3) RGB or (h, w, 4) RGBA and uint8 or floats.{_mend(array)}"
        )
    _check_size(squeezed.shape[1], squeezed.shape[0])
    return _rgb(Image.fromarray(_bytes(squeezed) if floats else squeezed))


def from_image(image: Image.Image) -> Pixels:
    """RGB pixels (h, w, 3) uint8 of a Pillow image, upright by EXIF; the image itself stays as it is."""
    _check_size(*image.size)
    if 0 in image.size:
        raise MienError(f"The Pillow image has {image.width} × {image.height} pixels. Pass one that holds some.")
    try:
        return _rgb(ImageOps.exif_transpose(image))
    except MienError:
        raise
    # An image that Pillow has only opened is read here, and a broken one makes it raise nearly anything.
    except Exception as error:
        raise MienError(f"The Pillow image cannot be read ({error}). Pass one that `load()` can read.") from error


def _bytes(values: NDArray[Any]) -> Pixels:
    """Floats in [0, 1] or [0, 255] as bytes."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= FULL):
        raise MienError(
            f"The photo is an array of floats from {low:g} to {high:g}, expected [0, 1] or [0, 255] without NaN. "
            "Scale it, or pass uint8."
        )
    return np.asarray(np.round(values * (FULL if high <= 1 else 1)), dtype=np.uint8)


def _mend(array: NDArray[Any]) -> str:
    """How to mend an array of another shape or type, where that can be told."""
    if array.ndim == 3 and array.shape[0] in {1, 3, 4}:  # noqa: PLR2004
        return " Put the channels last: array.transpose(1, 2, 0)."
    if array.ndim == 4:  # noqa: PLR2004
        return " Pass several photos as a list: list(array)."
    if array.dtype != np.uint8 and (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
        return " Convert it: array.astype('uint8'), after scaling it to [0, 255]."
    return ""


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise TooLargeError(f"The photo has {width} × {height} pixels, at most {limit} megapixels are read. Shrink it.")


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Gray of 16 bits, 32 bits or floats in 8 bits: `convert` would cut off all above 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    peak = float(values.max(initial=0))
    scales = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    full = next((scale for scale in scales if peak <= scale), peak)
    return Image.fromarray((np.clip(values / full, 0, 1) * 255).astype(np.uint8))
