"""What Mien answers: frozen records that print well and become a dict or a pandas data frame in one call."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference.answer_text import counted, table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("photo", "face", "x", "y", "width", "height", "emotion", "confidence", "status", "found_by", *EMOTIONS)
"""The columns of a table of faces, as CSV and as data frame."""


TYPES = {
    **dict.fromkeys(("photo", "emotion", "status", "found_by", "error"), "string"),
    **dict.fromkeys(("face", "x", "y", "width", "height"), "Int64"),
    **dict.fromkeys(("confidence", *EMOTIONS), "float64"),
}
"""Of the columns of a data frame, whatever is in them, so that frames can be put together."""


class Box(NamedTuple):
    """A face's place in pixels of the upright photo."""

    x: int
    y: int
    width: int
    height: int


class Record(Mapping[str, Any]):
    """A record that is read like its dict too: `face.emotion` is `face["emotion"]`."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, texts and numbers, ready for JSON."""

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())


@dataclass(frozen=True)
class ModelInfo(Record):
    """The model that answered and where it comes from; `synthetic`: it was trained on drawn faces."""

    version: str
    family: str
    data_name: str
    data_digest: str
    git_commit: str
    synthetic: bool

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)


@dataclass(frozen=True)
class FacePrediction(Record):
    """A face: its place, its likeliest emotion with all seven calibrated probabilities, and how far to trust them.

    `status` is one of `status.STATUSES`; `detection` is the detector's score (0 where its second look finds no upright
    face) and `landmarks` are five points (the eyes, the nose's tip, the mouth's corners); None: not known.
    """

    box: Box
    emotion: str
    probabilities: Mapping[str, float] = field(hash=False)
    confidence: float
    status: str
    found_by: str
    detection: float | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field, boxes and landmarks as lists."""
        return vars(self) | {
            "box": list(self.box),
            "probabilities": dict(self.probabilities),
            "landmarks": None if self.landmarks is None else [list(point) for point in self.landmarks],
        }

    def __str__(self) -> str:
        return f"{self.emotion} {self.confidence:.0%}" + ("" if self.status == "ok" else f" ({self.status})")


@dataclass(frozen=True)
class Prediction(Record):
    """The faces of one photo, the largest first.

    `status` is `ok`, `no_face`, or `error` for a photo of several that could not be read: `error` then says why.
    `photo` is its file's name, empty where it came without one. `warning` says what is missing of one that is cut off.
    """

    status: str
    faces: tuple[FacePrediction, ...]
    model: ModelInfo
    photo: str = field(default="", compare=False)
    error: str = ""
    warning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Status, faces and model, or the error; and the photo's name and the warning where there are any."""
        name = {"photo": self.photo} if self.photo else {}
        if self.error:
            return {**name, "error": self.error}
        faces = [face.to_dict() for face in self.faces]
        answer = {**name, "status": self.status, "faces": faces, "model": self.model.to_dict()}
        return answer | warned(self.warning)

    def to_frame(self) -> "pd.DataFrame":
        """A data frame with a row a face."""
        return to_frame([self])

    def __str__(self) -> str:
        if self.error:
            return self.error
        return table(self.photo or "photo", self.faces) + (f"\n  {self.warning}" if self.warning else "")

    def __repr__(self) -> str:
        name = f"{self.photo!r}: " if self.photo else ""
        found = "; ".join([counted(len(self.faces), "face"), *map(str, self.faces)])
        return f"<Prediction {name}{self.error or found}>"


def warned(warning: str) -> dict[str, str]:
    """What a warning adds to an answer."""
    return {"warning": warning} if warning else {}


def to_rows(photo: str, faces: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """A row a face, in the order of COLUMNS; a photo without a face gives one row of status `no_face`."""
    if not faces:
        return [_without_face(photo, "no_face")]
    return [
        [photo, number, *face["box"], face["emotion"], shares[face["emotion"]], face["status"], face["found_by"],
         *(shares[name] for name in EMOTIONS)]
        for number, face in enumerate(faces, 1)
        for shares in [face["probabilities"]]
    ]  # fmt: skip


def to_frame(predictions: Prediction | Iterable[Prediction]) -> "pd.DataFrame":
    """A data frame with a row a face, one for a photo without, and one with an `error` for a photo that was not read.

    Photos without a name are numbered from #1. Raises MienError where pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MienError("A data frame needs pandas: run `pip install pandas`, or use to_dict().") from None
    answers = [predictions] if isinstance(predictions, Prediction) else predictions
    rows = [row for number, answer in enumerate(answers, 1) for row in _frame_rows(answer, f"#{number}")]
    return pd.DataFrame(rows, columns=[*COLUMNS, "error"]).astype(TYPES)


def _frame_rows(answer: Prediction, number: str) -> list[list[Any]]:
    name = answer.photo or number
    rows = [_without_face(name, "error")] if answer.error else to_rows(name, answer.faces)
    return [[None if value == "" else value for value in row] + [answer.error or None] for row in rows]


def _without_face(photo: str, status: str) -> list[Any]:
    return [photo, *[""] * 7, status, "", *[""] * len(EMOTIONS)]
