"""Read the photos in a request, or say why they cannot be read."""

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, ClassVar, TypeVar

import bentoml
from bentoml.exceptions import BentoMLException
from pydantic import WithJsonSchema
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mien.errors import MienError
from mien.inference.photos import TooLargeError, UnknownFormatError
from mien.serving import limits
from mien.serving.limits import MIB

Setting = TypeVar("Setting")


def configured(read: Callable[[], Setting]) -> Setting:
    """What the environment says; nonsense raises BentoML's own error, which its command line prints in one sentence."""
    try:
        return read()
    except MienError as error:
        raise BentoMLException(str(error)) from None


LIMITS = configured(limits.read)

File = Annotated[
    Any,
    WithJsonSchema({"type": "file", "format": "image"}, mode="validation"),
    WithJsonSchema({"type": "string", "format": "binary"}, mode="serialization"),
]
Files = Annotated[
    Any,
    WithJsonSchema({"type": "array", "items": {"type": "file", "format": "image"}}, mode="validation"),
    WithJsonSchema({"type": "array", "items": {"type": "string", "format": "binary"}}, mode="serialization"),
]


class RefusedError(Exception):
    """A request that cannot be answered, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal(error: MienError) -> RefusedError:
    """The status for a photo that cannot be used."""
    kinds = {UnknownFormatError: 415, TooLargeError: 413}
    return RefusedError(next((status for kind, status in kinds.items() if isinstance(error, kind)), 422), str(error))


# BentoML's own reader writes each photo to disk, fetches URLs that a client names, and answers 500 to a bad form.
# A refusal takes the photos' place, since BentoML would log its raising as a crash.
class Photo(bentoml.IODescriptor):  # type: ignore[misc]
    """A photo, in the field `image` of a form or as the body itself, and what the client would like to be sent."""

    media_type: ClassVar[str | None] = "multipart/form-data"
    image: File
    accept: str = ""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> "Photo":  # noqa: ARG003
        """Read the photo's bytes."""
        try:
            raw = _kind(request).startswith(RAW)
            (image,) = [await _body(request)] if raw else await _files(request, "image", LIMITS.photo_mib, 1)
        except RefusedError as refused:
            image = refused
        return cls(image=image, accept=request.headers.get("accept", ""))


RAW = ("image/", "application/octet-stream")
"""Content types of a body that is the photo itself; what it is says its content."""


class Photos(bentoml.IODescriptor):  # type: ignore[misc]
    """A form with photos in the fields `images`."""

    media_type: ClassVar[str | None] = "multipart/form-data"
    images: Files

    most: ClassVar[int] = LIMITS.batch_photos

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> "Photos":  # noqa: ARG003
        """Read the bytes of each."""
        try:
            return cls(images=await _files(request, "images", LIMITS.batch_mib, cls.most))
        except RefusedError as refused:
            return cls(images=refused)


class Crops(Photos):
    """A form with pictures of one whole face each in the fields `images`."""

    most: ClassVar[int] = LIMITS.crops


class _Form(MultiPartParser):
    spool_max_size = LIMITS.batch_mib * MIB  # photos never touch the disk


def hint(path: str) -> str:
    """What a request to `path` looks like."""
    field, what = ("image", "one file in the form field `image`")
    if path in ("/predict_batch", "/classify"):
        field, what = "images", "one or more files in form fields called `images`"
    return f"Send {what}: curl -F {field}=@photo.jpg http://localhost:3000{path}"


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: Request) -> bytes:
    """The request's body, which is a photo."""
    try:
        return b"".join([chunk async for chunk in _limited(request, LIMITS.photo_mib)])
    except ClientDisconnect:
        raise RefusedError(400, "The request ended before its photo did. Send it again.") from None


async def _files(request: Request, field: str, mib: int, most: int) -> list[bytes | RefusedError]:
    """The bytes of the files in `field`: one, or up to `most` of them."""
    advice = hint(request.url.path)
    kind = _kind(request)
    raw = " Or send the photo as the body, with its own content type such as image/jpeg." if most == 1 else ""
    if kind != "multipart/form-data":
        raise RefusedError(
            415, f"The request's content type is {kind or 'not given'}, expected multipart/form-data. {advice}{raw}"
        )
    try:
        form = await _Form(request.headers, _limited(request, mib), max_files=most + 7, max_fields=8).parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many") else 400
        raise RefusedError(status, f"The form cannot be read: {error.message} {advice}") from error
    except ClientDisconnect:
        raise RefusedError(400, "The request ended before its form did. Send it again.") from None
    try:
        return await _contents(form, field, most, advice)
    finally:
        await form.close()


async def _contents(form: FormData, field: str, most: int, advice: str) -> list[bytes | RefusedError]:
    files = form.getlist(field)
    if not files or (most == 1 and len(files) > 1):
        fields = ", ".join(sorted(set(form))) or "nothing"
        raise RefusedError(
            422, f"The form holds {len(files)} fields `{field}` (it has {fields[:200]}), expected one. {advice}"
        )
    if len(files) > most:
        raise RefusedError(413, f"The form holds {len(files)} photos, at most {most} are read. Send them in parts.")
    text = RefusedError(422, f"The form field `{field}` is text, expected a file. {advice}")
    if not any(isinstance(file, UploadFile) for file in files):
        raise text
    return [await file.read() if isinstance(file, UploadFile) else text for file in files]


async def _limited(request: Request, mib: int) -> AsyncGenerator[bytes, None]:
    """Pass on the request's body, refused as soon as it is longer than `mib`."""
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > mib * MIB:
            raise RefusedError(413, f"The request is longer than {mib} MiB. Send less, or smaller photos.")
        yield chunk
