import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.config.params import Prepare
from mien.data.quality import statistics
from mien.data.quality.exclusions import Columns, decide, reasons
from mien.errors import MienError

DROP = Prepare(copies="drop", conflicts="drop", flat="drop", placeholders="drop", leaks="flag")
KEEP = Prepare(copies="keep", conflicts="keep", flat="keep", placeholders="keep", leaks="flag")
NO_LEAKS = Prepare(copies="keep", conflicts="keep", flat="keep", placeholders="keep", leaks="drop_from_train")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int = 48, width: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)


# ---- decoding


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_decode_to_their_pixels(kind: str) -> None:
    data = encoded(Image.fromarray(noise()), kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(statistics.decode(data, "a"), noise())


def test_a_flat_webp_that_opencv_refuses_is_read() -> None:
    data = encoded(Image.new("L", (48, 48), 0), "WEBP", lossless=True)
    np.testing.assert_array_equal(statistics.decode(data, "a"), np.zeros((48, 48)))


def test_colour_alpha_palette_and_deep_images_become_gray() -> None:
    gray, colour = Image.fromarray(noise()), Image.fromarray(np.dstack([noise()] * 3))
    deep = Image.fromarray(noise().astype(np.uint16) * 257)
    for image in (colour, colour.convert("RGBA"), gray.convert("P"), deep):
        decoded = statistics.decode(encoded(image, "PNG"), "a")
        assert decoded.dtype == np.uint8
        assert np.abs(decoded.astype(int) - noise()).max() <= 2


def test_exif_orientation_is_applied() -> None:
    image = Image.fromarray(noise(20, 30))
    exif = image.getexif()
    exif[0x0112] = 6
    assert statistics.decode(encoded(image, "JPEG", exif=exif), "a").shape == (30, 20)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<html>", b"P5\n48 48\n255\n"])
def test_a_corrupt_image_is_named(data: bytes) -> None:
    with pytest.raises(MienError, match=r"Image fer2013\.csv:12 cannot be read: .*Replace or remove it"):
        statistics.decode(data, "fer2013.csv:12")


def test_faces_shrink_by_area() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (96, 48))
    np.testing.assert_array_equal(statistics.face(stripes), np.full((48, 48), 128))
    np.testing.assert_array_equal(statistics.face(noise()), noise())
    assert statistics.face(noise(100, 30)).shape == (48, 48)


# ---- measuring


def test_blur_lowers_sharpness_and_light_raises_the_mean() -> None:
    sharp, soft = statistics.measure(noise()), statistics.measure(cv2.GaussianBlur(noise(), (5, 5), 2).astype(np.uint8))
    assert soft["sharpness"] < 0.1 * sharp["sharpness"]
    assert sharp["mean"] == pytest.approx(noise().mean())
    assert sharp["std"] == pytest.approx(noise().std())
    assert not sharp["flat"]
    assert not sharp["placeholder"]


def test_one_colour_is_flat_and_no_placeholder() -> None:
    measured = statistics.measure(np.full((48, 48), 7, np.uint8))
    assert measured["flat"]
    assert not measured["placeholder"]


def test_text_on_paper_is_a_placeholder_even_after_jpeg() -> None:
    page = np.full((48, 48), 250, np.uint8)
    for line, text in ((20, "moved or"), (34, "deleted")):
        cv2.putText(page, text, (1, line), cv2.FONT_HERSHEY_PLAIN, 0.6, 90, 1, cv2.LINE_AA)
    jpeg = statistics.decode(encoded(Image.fromarray(page), "JPEG", quality=75), "a")
    assert statistics.measure(page)["placeholder"]
    assert statistics.measure(jpeg)["placeholder"]


def test_dark_bright_and_drawn_faces_are_no_placeholders() -> None:
    from mien.data.sources.sample import face

    for number in range(70):
        drawn = face(number % 7, np.random.default_rng(number))
        for image in (drawn, drawn // 5, 255 - drawn // 5):
            assert not statistics.measure(np.asarray(image, np.uint8))["placeholder"]


# ---- copies, conflicts, leaks


def rows(*described: str) -> Columns:
    """Columns of rows described as `pixels split label`, e.g. `a train 3`; `F` is flat, `P` a placeholder."""
    pixels, splits, labels = (np.array(part) for part in zip(*(text.split() for text in described), strict=True))
    columns = {"split": splits, "emotion": labels.astype(int), "flat": pixels == "F", "placeholder": pixels == "P"}
    return columns | statistics.groups(pixels, columns["emotion"], splits)


def verdicts(columns: Columns, policy: Prepare) -> list[str]:
    decided = decide(columns, policy)
    return [f"{status} {reason}".strip() for status, reason in zip(decided["status"], decided["reason"], strict=True)]


def test_groups_count_copies_conflicts_and_leaks() -> None:
    found = rows("a train 0", "a train 0", "a test 0", "b train 1", "b validation 2", "c test 3", "c validation 3")
    assert found["copies"].tolist() == [3, 3, 3, 2, 2, 2, 2]
    assert found["conflict"].tolist() == [False] * 3 + [True] * 2 + [False] * 2
    assert found["leaked"].tolist() == [False, False, True, False, True, False, False]
    assert found["spans"].tolist() == [True, True, False, True, False, False, False]
    assert found["surplus"].tolist() == [False, True] + [False] * 5


def test_surplus_copies_leave_training_but_not_the_test_splits() -> None:
    found = rows("a train 0", "a train 0", "b test 1", "b test 1")
    assert verdicts(found, DROP) == ["kept", "excluded copy", "kept", "flagged copy"]
    assert verdicts(found, KEEP) == ["kept", "flagged copy", "kept", "flagged copy"]


def test_conflicting_copies_all_leave_training() -> None:
    assert verdicts(rows("a train 0", "a train 1", "a train 0"), DROP) == ["excluded conflict"] * 3


def test_a_test_label_never_decides_what_is_trained_on() -> None:
    assert verdicts(rows("a train 0", "a test 1"), DROP) == ["kept", "flagged leaked"]


def test_flat_and_placeholder_images_leave_training_only() -> None:
    found = rows("F train 0", "P train 0", "F validation 0", "P test 0")
    assert verdicts(found, DROP) == ["excluded flat", "excluded placeholder", "flagged leaked", "flagged leaked"]
    assert verdicts(rows("P test 0", "F test 0"), DROP) == ["flagged placeholder", "flagged flat"]


def test_leaks_are_flagged_or_dropped_from_train() -> None:
    found = rows("a train 0", "a train 0", "a test 0", "b train 0")
    assert verdicts(found, DROP) == ["kept", "excluded copy", "flagged leaked", "kept"]
    assert verdicts(found, NO_LEAKS)[2:] == ["kept", "kept"]
    assert [verdict.split()[0] for verdict in verdicts(found, NO_LEAKS)[:2]] == ["excluded"] * 2


def test_reasons_add_up_to_the_rows_concerned() -> None:
    found = rows("a train 0", "a train 0", "F train 0", "F train 0", "a test 0")
    found |= decide(found, DROP)
    assert reasons(found, "excluded") == {"copy": 1, "flat": 2}
    assert reasons(found, "flagged") == {"leaked": 1}
