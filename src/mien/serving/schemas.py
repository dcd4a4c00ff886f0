"""What the service answers, as typed models: they are its OpenAPI, and its tests hold the answers against them."""

from typing import Literal

import bentoml
from pydantic import BaseModel, Field

from mien.emotions import FACE_SIZE
from mien.inference.tta import TtaName

Emotion = Literal["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
Probability = float
Status = Literal["ok", "uncertain", "too_small", "blurry", "low_confidence"]


CUT_OFF = Field(default="", description="What is missing of a photo that is cut off at its very end; absent else.")


class Model(BaseModel):
    """The model that answers and where it comes from."""

    version: str
    family: str
    data_name: str
    data_digest: str
    git_commit: str
    synthetic: bool = Field(description="Whether it was trained on drawn faces: its answers then mean nothing.")


class Face(BaseModel):
    """A face, and its emotion with calibrated probabilities."""

    emotion: Emotion
    probabilities: dict[Emotion, Probability]
    confidence: Probability = Field(ge=0, le=1, description="The named emotion's probability.")
    status: Status = Field(
        description="`uncertain`: the named emotion is less likely than the model's threshold. `too_small`, `blurry`, "
        "`low_confidence` (of the detector, or its second look contradicts): the face is a poor one to judge."
    )

    box: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels of the upright photo.")
    found_by: str
    detection: float | None = Field(
        description="The detector's score, where it has one; 0 where its second look finds no upright face."
    )
    landmarks: list[tuple[float, float]] | None = Field(
        description="The eyes, the nose's tip and the mouth's corners, the picture's left first, where they are known."
    )


class Answer(bentoml.IODescriptor):  # type: ignore[misc]
    """The faces of a photo, the largest first; none is an answer, not an error."""

    status: Literal["ok", "no_face"]
    faces: list[Face]
    model: Model
    warning: str = CUT_OFF


class PhotoAnswer(BaseModel):
    """One photo of several: its faces."""

    status: Literal["ok", "no_face"]
    faces: list[Face]
    warning: str = CUT_OFF


class Error(BaseModel):
    """Why there is no answer, and what to do."""

    error: str


class BatchAnswer(bentoml.IODescriptor):  # type: ignore[misc]
    """One entry a photo, in the order sent; a photo that cannot be used has an error in its place."""

    photos: list[PhotoAnswer | Error]
    model: Model


class CropFace(Face):
    """A face that fills its picture."""

    warning: str = CUT_OFF


class CropsAnswer(bentoml.IODescriptor):  # type: ignore[misc]
    """One entry a picture, in the order sent; one that cannot be used has an error in its place."""

    faces: list[CropFace | Error]
    model: Model


class ExplainedFace(Face):
    """A face, with what its answer depends on."""

    saliency: list[list[float]] = Field(
        description=f"{FACE_SIZE} × {FACE_SIZE}, in [-1, 1]: above 0 where hiding it makes the emotion less likely."
    )
    seen: str = Field(
        description=f"The {FACE_SIZE} × {FACE_SIZE} gray picture that the model saw, as PNG in a data URL."
    )
    hidden: dict[Literal["before", "without_salient", "without_others"], Probability] = Field(
        description="The named emotion's probability as the face is, with the most salient fifth of its pixels "
        "hidden, and with the least salient fifth hidden."
    )


class Explanation(bentoml.IODescriptor):  # type: ignore[misc]
    """The largest faces of a photo with their saliency."""

    status: Literal["ok", "no_face"]
    faces: list[ExplainedFace]
    unexplained: int = Field(description="Faces of the photo that are left out because they are many.")
    note: str
    model: Model
    warning: str = CUT_OFF


class Runtime(BaseModel):
    """What runs the model."""

    backend: str
    precision: str


class Detector(BaseModel):
    """What finds the faces."""

    name: str


class ModelInfo(BaseModel):
    """The model's card, and what serves it."""

    model: Model
    emotions: tuple[Emotion, ...]
    temperature: float
    tta: TtaName
    crops: tuple[int, ...]
    too_small_below: float
    blurry_below: float
    low_confidence_below: Probability
    uncertain_below: Probability
    metrics: dict[str, float]
    runtime: Runtime
    detector: Detector
    limits: dict[str, int]


class Picture(bentoml.IODescriptor):  # type: ignore[misc]
    """The photo with each face's box and bars drawn into it."""

    picture: str = Field(json_schema_extra={"format": "binary"})
