"""mien.inference.inputs: whatever holds a photo is taken, and whatever does not is told so."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.errors import MienError
from mien.inference import inputs, photos

Encode = Callable[..., bytes]


def pixels(image: Any) -> photos.Pixels:
    return inputs.decode(inputs.load(image)).pixels


@pytest.fixture
def picture(tmp_path: Path, encode: Encode) -> Path:
    """A small colour picture, losslessly on disk."""
    path = tmp_path / "picture.png"
    path.write_bytes(encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 32, 3), np.uint8)), "PNG"))
    return path


def test_every_form_of_a_photo_gives_the_same_pixels(picture: Path) -> None:
    data = picture.read_bytes()
    expected = photos.decode(data)
    with picture.open("rb") as file, Image.open(picture) as opened:
        forms = [
            picture,
            str(picture),
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
            file,
            opened,
            expected,
        ]
        for image in forms:
            np.testing.assert_array_equal(pixels(image), expected)


def test_floats_are_in_0_to_1_where_none_is_above_1_else_in_0_to_255(picture: Path) -> None:
    expected = pixels(picture)
    for dtype, scale in ((np.float64, 1.0), (np.float32, 1.0), (np.float64, 255.0), (np.float16, 255.0)):
        values = (expected / scale).astype(dtype)
        np.testing.assert_allclose(pixels(values).astype(int), expected, atol=1)
    assert pixels(np.ones((4, 4), np.float32)).min() == 255
    assert pixels(np.full((4, 4), 1.6)).max() == 2


@pytest.mark.parametrize("wrong", [-0.1, 256.0, float("nan"), float("inf")])
def test_floats_out_of_range_are_refused_with_their_range(wrong: float) -> None:
    values = np.full((4, 4, 3), 0.5)
    values[1, 2, 0] = wrong
    with pytest.raises(MienError, match=r"array of floats from .* expected \[0, 1\] or \[0, 255\]"):
        pixels(values)


@pytest.mark.parametrize(
    ("array", "mend"),
    [
        (np.zeros((3, 20, 32), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((5, 20, 32, 3), np.uint8), r"list\(array\)"),
        (np.zeros((20, 32), np.uint16), r"astype\('uint8'\)"),
        (np.zeros((20, 32, 3), np.int64), r"astype\('uint8'\)"),
        (np.zeros((20, 32), np.bool_), r"astype\('uint8'\)"),
        (np.zeros((20, 32), np.complex64), r"complex64, expected"),
        (np.full((20, 32), "a"), r"<U1, expected"),
        (np.zeros((20, 0, 3)), r"shape \(20, 0, 3\)"),
        (np.zeros((20, 32, 2), np.uint8), r"or floats\.$"),
    ],
)
def test_arrays_of_other_shapes_and_types_are_refused_with_a_way_out(array: Any, mend: str) -> None:
    with pytest.raises(MienError, match=mend):
        pixels(array)


def test_a_pillow_image_is_turned_upright_and_stays_as_it_was(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encode(Image.new("RGB", (32, 20), "red"), "JPEG", exif=exif))) as image:
        assert pixels(image).shape == (32, 20, 3)
        assert image.size == (32, 20)
        assert image.getexif()[0x0112] == 6
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert pixels(clear).min() == 255


def test_a_pillow_image_that_cannot_be_read_or_is_too_large_is_told(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:300])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(MienError, match="Pillow image cannot be read"):
        pixels(cut)
    with Image.open(picture) as closed:
        pass
    with pytest.raises(MienError, match="Pillow image cannot be read"):
        pixels(closed)
    with pytest.raises(MienError, match="has 0 × 9 pixels"):
        pixels(Image.new("RGB", (0, 9)))
    with pytest.raises(photos.TooLargeError, match="50 megapixels"):
        pixels(Image.new("L", (9000, 9000)))


@pytest.mark.parametrize("image", [None, 3, 1.5, object(), {"photo": 1}])
def test_what_is_no_photo_is_named_by_its_type(image: Any) -> None:
    with pytest.raises(MienError, match=rf"photo is {type(image).__name__}, expected a path, bytes"):
        pixels(image)


@pytest.mark.parametrize("images", [iter(()), {"a.jpg"}])
def test_what_may_be_several_photos_is_told_how_they_are_passed(images: Any) -> None:
    with pytest.raises(MienError, match="For several photos pass a list, or call stream"):
        pixels(images)


@pytest.mark.parametrize(
    "image", ["a.jpg", Path("a.jpg"), b"a", io.BytesIO(), np.zeros((9, 9)), Image.new("L", (9, 9)), None]
)
def test_one_photo_is_not_taken_for_several(image: Any) -> None:
    with pytest.raises(MienError, match=rf"photos are one {type(image).__name__}, expected several"):
        inputs.check_several(image)


def test_files_that_give_no_bytes_are_told(picture: Path) -> None:
    with pytest.raises(MienError, match=r"gave str, expected bytes\. Open it in mode 'rb'"):
        pixels(io.StringIO("text"))
    with picture.open(encoding="utf-8") as text, pytest.raises(MienError, match="mode 'rb'"):
        pixels(text)
    with picture.open("rb") as closed:
        pass
    with pytest.raises(MienError, match="Open it anew"):
        pixels(closed)


@pytest.mark.parametrize("name", ["huge.jpg", "/dev/zero"])
def test_a_huge_file_is_refused_before_it_fills_the_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "MAX_MIB", 1)
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(100 * 2**30)  # which takes no room on the disk
    with pytest.raises(photos.TooLargeError, match="is larger than 1 MiB"):
        inputs.load(tmp_path / name)


def test_an_address_is_never_followed_unasked() -> None:
    for address in ("http://127.0.0.1:9/a.jpg", "HTTPS://example.org/a.jpg"):
        with pytest.raises(MienError, match=r"predict reads no network\. Call predict_url"):
            inputs.load(address)


def test_photos_go_by_the_names_of_their_files(picture: Path) -> None:
    with picture.open("rb") as file, Image.open(picture) as opened:
        assert [inputs.name_of(image) for image in (picture, str(picture), file, opened)] == [str(picture)] * 4
    for nameless in (b"", io.BytesIO(), np.zeros((2, 2)), Image.new("L", (2, 2)), None):
        assert inputs.name_of(nameless) == ""
    with pytest.raises(MienError, match=r"^some\.png: The photo is an array"):
        inputs.decode(np.zeros(3), "some.png")
