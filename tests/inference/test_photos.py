"""mien.inference.photos: hostile and unusual bytes end in pixels or in one clear message."""

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.errors import MienError
from mien.inference import photos
from mien.inference.photos import TooLargeError, UnknownFormatError

photos.register_heif()  # the tests write such files too

Encode = Callable[..., bytes]


def ramp(shape: tuple[int, ...], dtype: Any, full: float) -> NDArray[Any]:
    """Values from 0 at the left to `full` at the right."""
    row = np.linspace(0, full, shape[1])
    return np.broadcast_to(row if len(shape) == 2 else row[:, None], shape).astype(dtype)


GRAY = ramp((20, 32), np.uint8, 255)
COLOUR = ramp((20, 32, 3), np.uint8, 255)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(GRAY), "PNG"),
        (Image.fromarray(COLOUR), "PNG"),
        (Image.fromarray(COLOUR), "JPEG"),
        (Image.fromarray(COLOUR), "WEBP"),
        (Image.fromarray(COLOUR), "HEIF"),
        (Image.fromarray(COLOUR).convert("RGBA"), "HEIF"),
        (Image.fromarray(COLOUR), "AVIF"),
        (Image.fromarray(COLOUR), "BMP"),
        (Image.fromarray(COLOUR), "TIFF"),
        (Image.fromarray(GRAY), "PPM"),
        (Image.fromarray(GRAY).convert("P"), "GIF"),
        (Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
        (Image.fromarray(COLOUR).convert("RGBA"), "PNG"),
        (Image.fromarray(GRAY).convert("LA"), "PNG"),
        (Image.fromarray(COLOUR).convert("YCbCr"), "JPEG"),
        (Image.fromarray(ramp((20, 32), np.uint16, 65535)), "PNG"),
        (Image.fromarray(ramp((20, 32), np.uint16, 65535)), "TIFF"),
        (Image.fromarray(ramp((20, 32), np.int32, 65535)), "TIFF"),
        (Image.fromarray(ramp((20, 32), np.float32, 1)), "TIFF"),
        (Image.fromarray(ramp((20, 32), np.float32, 255)), "TIFF"),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else value,
)
def test_every_kind_of_picture_keeps_its_tones(image: Image.Image, kind: str, encode: Encode) -> None:
    pixels = photos.decode(encode(image, kind))
    assert pixels.shape == (20, 32, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(int), COLOUR, atol=12)


def test_black_and_white_scans_are_read(encode: Encode) -> None:
    pixels = photos.decode(encode(Image.fromarray(GRAY > 127), "PNG"))
    assert set(np.unique(pixels)) == {0, 255}


def test_transparency_lies_on_white(encode: Encode) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert photos.decode(encode(clear, "PNG")).min() == 255
    palette = Image.new("P", (8, 8), 0)
    assert photos.decode(encode(palette, "PNG", transparency=0)).min() == 255
    assert photos.decode(encode(palette, "PNG", transparency=bytes([128] * 256))).min() in range(126, 130)


@pytest.mark.parametrize("kind", ["ICO", "JPEG2000"])
def test_other_formats_are_refused_with_those_that_are_read(kind: str, encode: Encode) -> None:
    with pytest.raises(UnknownFormatError, match="Send one of JPEG, PNG, WEBP, HEIF, AVIF, GIF"):
        photos.decode(encode(Image.fromarray(COLOUR), kind))


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_phones_photos_are_turned_upright(kind: str, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = photos.decode(encode(Image.fromarray(COLOUR), kind, exif=exif.tobytes(), quality=95))
    assert pixels.shape == (32, 20, 3)
    assert pixels[0].mean() < 40
    assert pixels[-1].mean() > 215


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_phones_photos_have_the_same_limit(kind: str, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.fromarray(COLOUR), kind)
    monkeypatch.setattr(photos, "MAX_PIXELS", 600)
    with pytest.raises(TooLargeError, match="32 × 20 pixels"):
        photos.decode(data)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_phones_photo_that_claims_a_huge_size_never_unfolds(kind: str, encode: Encode) -> None:
    data = encode(Image.fromarray(COLOUR), kind)
    huge = b"ispe" + struct.pack(">III", 0, 60_000, 60_000)
    claimed = re.sub(rb"(?s)ispe.{12}", lambda _: huge, data)
    assert claimed != data
    with pytest.raises(MienError):
        photos.decode(claimed)


def test_photos_are_turned_upright_by_exif(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate a quarter clockwise to view"
    pixels = photos.decode(encode(Image.fromarray(COLOUR), "JPEG", exif=exif, quality=95))
    assert pixels.shape == (32, 20, 3)
    assert pixels[0].mean() < 20
    assert pixels[-1].mean() > 230


def test_the_first_frame_of_an_animation_counts(encode: Encode) -> None:
    frames = [Image.new("L", (16, 16), tone) for tone in (10, 200)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert photos.decode(data).max() <= 12


@pytest.mark.parametrize("size", [(1, 1), (30_000, 2), (2, 30_000)])
def test_odd_sizes_are_read(size: tuple[int, int], encode: Encode) -> None:
    assert photos.decode(encode(Image.new("L", size), "PNG")).shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"GIF89a", b"\x00" * 999, b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"], ids=len
)
def test_what_is_no_picture_is_called_so(data: bytes) -> None:
    with pytest.raises(UnknownFormatError, match="Send"):
        photos.decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF"])
def test_pictures_cut_off_anywhere_never_crash(kind: str, encode: Encode) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind)
    for share in np.linspace(0, 0.85, 18):
        with pytest.raises(MienError):
            photos.decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF", "PPM"])
def test_damaged_pictures_end_in_pixels_or_in_one_message(kind: str, encode: Encode) -> None:
    random = np.random.default_rng(1)
    data = encode(Image.fromarray(COLOUR), kind)
    for _ in range(150):
        broken = np.frombuffer(data, np.uint8).copy()
        broken[random.integers(0, len(data), 8)] = random.integers(0, 256, 8)
        with suppress(MienError):
            assert photos.decode(broken.tobytes()).ndim == 3


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it is as large as that."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 99)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_decompression_bombs_are_refused_before_they_unfold(side: int) -> None:
    with pytest.raises(TooLargeError, match="megapixels"):
        photos.decode(bomb(side, side))


def test_arrays_of_the_usual_shapes_are_taken() -> None:
    for array in (GRAY, GRAY[:, :, None], COLOUR, np.dstack([COLOUR, np.full_like(GRAY, 255)])):
        np.testing.assert_array_equal(photos.from_array(array), COLOUR)


@pytest.mark.parametrize(
    "array", [GRAY.astype(np.int32), np.zeros((0, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_arrays_of_other_shapes_and_types_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(MienError, match=r"expected .* uint8"):
        photos.from_array(array)


@pytest.mark.parametrize(
    ("orientation", "size", "shape"), [(1, (1001, 801), (401, 501, 3)), (6, (801, 1001), (501, 401, 3))]
)
def test_a_large_jpeg_may_be_read_at_half_its_size(
    orientation: int, size: tuple[int, int], shape: tuple[int, ...], encode: Encode
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.new("RGB", (1001, 801), "red"), "JPEG", exif=exif)
    photo = photos.read(data, enough=500)
    assert (photo.pixels.shape, photo.size) == (shape, size)
    assert photo.scale == pytest.approx(0.5, abs=0.01)
    assert photos.read(data, enough=501).scale == 1
    assert photos.read(encode(Image.new("RGB", (1001, 801)), "PNG"), enough=500).scale == 1


def photo(mode: str, height: int = 400) -> Image.Image:
    """A picture without a black row."""
    noise = np.random.default_rng(0).integers(40, 256, (height, 96, 3), np.uint8)
    return Image.fromarray(noise).convert("L" if mode == "I;16" else mode).convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), *(("PNG", m) for m in ("RGB", "RGBA", "L", "LA", "P", "I;16"))]
)
def test_a_photo_cut_off_at_its_very_end_is_read_with_a_warning(kind: str, mode: str, encode: Encode) -> None:
    data = encode(photo(mode), kind)
    found = photos.read(data[: int(0.97 * len(data))])
    assert re.search(r"cut off: 9\d% of its rows are there, the others are black", found.warning)
    whole = photos.read(data)
    assert whole.warning == ""
    np.testing.assert_array_equal(found.pixels[:360], whole.pixels[:360])
    assert found.pixels[-1].max() in {0, 255}  # unread is transparent in some modes
    for share in (0.88, 0.5):
        with pytest.raises(MienError, match="damaged or cut off"):
            photos.read(data[: int(share * len(data))])


def test_a_large_jpeg_read_at_less_than_its_size_may_be_cut_off_too(encode: Encode) -> None:
    data = encode(photo("RGB").resize((1200, 1600)), "JPEG")[:-600]
    found = photos.read(data, enough=400)
    assert found.scale == 0.25
    assert found.warning.startswith("The photo is cut off: 9")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"progressive": True}), ("WEBP", {}), ("HEIF", {}), ("AVIF", {}), ("BMP", {}), ("TIFF", {})],
)
def test_formats_that_cannot_be_read_in_part_stay_an_error_when_cut_off(
    kind: str, options: dict[str, Any], encode: Encode
) -> None:
    data = encode(photo("RGB"), kind, **options)
    with pytest.raises(MienError, match=r"damaged or cut off|no image") as told:
        photos.read(data[: int(0.97 * len(data))])
    assert "\n" not in str(told.value)


def interlaced(side: int) -> bytes:
    """A white PNG in Adam7's seven passes."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    random = np.random.default_rng(0)
    rows = [
        b"\0" + random.integers(9, 256, len(range(x, side, dx)), np.uint8).tobytes()
        for x, y, dx, dy in passes
        for _ in range(y, side, dy)
    ]
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 1)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def test_an_interlaced_png_that_is_cut_off_stays_an_error() -> None:
    data = interlaced(200)
    assert photos.decode(data).min() > 0
    with pytest.raises(MienError, match="cut off"):
        photos.decode(data[: int(0.97 * len(data))])
