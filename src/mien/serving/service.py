"""BentoML service: `POST /predict` takes a photo and answers with the emotions in it."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import bentoml
import cv2
from bentoml._internal.utils.analytics.usage_stats import do_not_track
from bentoml.exceptions import BentoMLException
from pydantic import BaseModel, WithJsonSchema
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse

from mien.errors import MienError
from mien.serving import champion, predict
from mien.serving.photos import TooLargeError, UnknownFormatError

# BentoML reports each start to its maker. Its command line has read, and kept, the variable before it comes here.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
do_not_track.cache_clear()

MAX_BYTES = 20 * 1024 * 1024
"""Largest request: a photo straight from a camera fits."""

HINT = "Send one file in the form field `image`: curl -F image=@photo.jpg http://localhost:3000/predict"


class FoundFace(BaseModel):
    """One face: box and landmarks in pixels of the upright photo, calibrated probabilities, whether to rely on it."""

    box: tuple[int, int, int, int]
    emotion: str
    probabilities: dict[str, float]
    confidence: float
    status: Literal["ok", "too_small", "blurry", "low_confidence", "uncertain"]
    found_by: str
    detection: float | None
    landmarks: list[tuple[float, float]] | None


class Model(BaseModel):
    """The model that answers and where it comes from."""

    version: str
    family: str
    data_name: str
    data_digest: str
    git_commit: str
    synthetic: bool


class Answer(bentoml.IODescriptor):  # type: ignore[misc]
    """The faces of a photo, the largest first; none is an answer, not an error."""

    status: Literal["ok", "no_face"]
    faces: list[FoundFace]
    model: Model


class RefusedError(Exception):
    """A request that cannot be answered, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> JSONResponse:
        """Say it as every error of this service is said: `{"error": message}`."""
        return JSONResponse({"error": str(self)}, status_code=self.status)


class Upload(bentoml.IODescriptor):  # type: ignore[misc]
    """A form with one photo in the field `image`."""

    # BentoML's own reader writes each photo to disk, fetches URLs that a client names, and answers 500 to a bad form.
    media_type: ClassVar[str | None] = "multipart/form-data"
    image: Annotated[
        Any,
        WithJsonSchema({"type": "file", "format": "image"}, mode="validation"),
        WithJsonSchema({"type": "string", "format": "binary"}, mode="serialization"),
    ]

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> "Upload":  # noqa: ARG003
        """Read the photo's bytes; a refusal takes their place, since BentoML would log its raising as a crash."""
        try:
            return cls(image=await _image(request))
        except RefusedError as refused:
            return cls(image=refused)


class _Form(MultiPartParser):
    spool_max_size = MAX_BYTES  # photos never touch the disk


# One thread a worker, two workers: on two cores this serves most requests a second, since detection has one thread.
@bentoml.service(name="mien", workers=2, threads=1, traffic={"timeout": 30, "max_concurrency": 64})
class Mien:
    """Emotions of the faces in a photo."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Refuse to start without a champion: a worker that fails would be started again and again."""
        try:
            champion.read_card(champion.folder(root=Path(Mien.working_dir)))  # type: ignore[attr-defined]
        except MienError as error:
            raise BentoMLException(str(error)) from None

    def __init__(self) -> None:
        """Load the champion. Raises MienError where there is none."""
        cv2.setNumThreads(1)
        self.mien = predict.Mien(threads=1)

    @bentoml.api(input_spec=Upload, output_spec=Answer)  # type: ignore[untyped-decorator]
    def predict(self, image: bytes | RefusedError) -> Answer | JSONResponse:
        """Find every face in the photo of the form field `image` and name its emotion."""
        try:
            if isinstance(image, RefusedError):
                raise image
            return Answer(**self.mien.predict(image))
        except RefusedError as refused:
            return refused.response()
        except UnknownFormatError as error:
            return RefusedError(415, str(error)).response()
        except TooLargeError as error:
            return RefusedError(413, str(error)).response()
        except MienError as error:
            return RefusedError(422, str(error)).response()


async def _image(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise RefusedError(
            415, f"The request's content type is {kind or 'not given'}, expected multipart/form-data. {HINT}"
        )
    try:
        form = await _Form(request.headers, _limited(request), max_files=8, max_fields=8).parse()
    except MultiPartException as error:
        raise RefusedError(400, f"The form is broken: {error.message} {HINT}") from error
    try:
        return await _only_file(form)
    finally:
        await form.close()


async def _only_file(form: FormData) -> bytes:
    images = form.getlist("image")
    if len(images) != 1:
        fields = ", ".join(sorted(set(form))) or "nothing"
        raise RefusedError(422, f"The form holds {len(images)} fields `image` (it has {fields}), expected one. {HINT}")
    if not isinstance(images[0], UploadFile):
        raise RefusedError(422, f"The form field `image` is text, expected a file. {HINT}")
    return await images[0].read()


async def _limited(request: Request) -> AsyncGenerator[bytes, None]:
    """Pass on the request's body, refused as soon as it is longer than MAX_BYTES."""
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > MAX_BYTES:
            raise RefusedError(413, f"The request is longer than {MAX_BYTES // 2**20} MiB. Send a smaller photo.")
        yield chunk
