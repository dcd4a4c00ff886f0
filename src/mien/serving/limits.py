"""What the service accepts at most: one table, each line of which an environment variable can change."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass

from mien.errors import MienError

MIB = 2**20
PREFIX = "MIEN_LIMIT_"


@dataclass(frozen=True)
class Limits:
    """Sizes in MiB, times in seconds unless in ms; `MIEN_LIMIT_BATCH_PHOTOS=8` and so on change them."""

    photo_mib: int = 20
    """A request with one photo: one straight from a camera fits."""
    batch_mib: int = 64
    """A request with many photos or face crops."""
    batch_photos: int = 64
    crops: int = 256
    explained_faces: int = 4
    """Faces of a photo, the largest first, whose saliency is computed: each costs a hundred classifications."""
    seconds: int = 60
    """From the first byte of a request to the first of its answer; later ones get 504."""
    batch_seconds: int = 30
    """Work on one batch; the photos that are left get an error each."""
    concurrency: int = 64
    """Requests at a time, all workers together; further ones get 429 at once."""
    wait_ms: int = 500
    """What a request may be expected to wait for those before it; one that would wait longer gets 503 at once."""
    memory_mib: int = 256
    """Bodies of requests that one worker holds at a time; further ones get 503 at once."""
    workers: int = 2

    def __post_init__(self) -> None:
        """Refuse what would refuse everything. Raises MienError."""
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise MienError(f"{PREFIX}{name.upper()} is {value}, expected at least 1.")
        if self.memory_mib < self.batch_mib or self.batch_mib < self.photo_mib:
            raise MienError(
                f"The limits do not fit: memory_mib {self.memory_mib}, batch_mib {self.batch_mib} and "
                f"photo_mib {self.photo_mib}, expected each to be at least as large as the next."
            )


def read(environment: Mapping[str, str] = os.environ) -> Limits:
    """The limits with what the environment changes. Raises MienError for unknown names and for what is no number."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    known = {PREFIX + field.name.upper(): field.name for field in dataclasses.fields(Limits)}
    values = {}
    for name, value in given.items():
        if name not in known or not value.strip().isdecimal():
            raise MienError(f"{name}={value!r} is no limit: expected a whole number for one of {', '.join(known)}.")
        values[known[name]] = int(value)
    return Limits(**values)
