"""mien.serving.limits: one table, changed by the environment, refused where it makes no sense."""

import pytest

from mien.errors import MienError
from mien.serving import limits


def test_the_environment_changes_a_limit_and_leaves_the_rest() -> None:
    assert limits.read({"HOME": "/", "MIEN_LIMIT_BATCH_PHOTOS": "3"}) == limits.Limits(batch_photos=3)


@pytest.mark.parametrize(
    ("environment", "result"),
    [
        ({"MIEN_LIMIT_PHOTOS": "3"}, "MIEN_LIMIT_PHOTOS='3' is no limit.*MIEN_LIMIT_BATCH_PHOTOS"),
        ({"MIEN_LIMIT_SECONDS": "1.5"}, "expected a whole number"),
        ({"MIEN_LIMIT_SECONDS": "-1"}, "expected a whole number"),
        ({"MIEN_LIMIT_WORKERS": "0"}, "MIEN_LIMIT_WORKERS is 0, expected at least 1"),
        ({"MIEN_LIMIT_PHOTO_MIB": "100"}, "The limits do not fit"),
        ({"MIEN_LIMIT_MEMORY_MIB": "10"}, "The limits do not fit"),
    ],
)
def test_limits_that_make_no_sense_are_refused(environment: dict[str, str], result: str) -> None:
    with pytest.raises(MienError, match=result):
        limits.read(environment)
