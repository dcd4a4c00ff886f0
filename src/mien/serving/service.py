"""BentoML service: photos in, emotions out, over HTTP."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bentoml
import click
import cv2
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics.usage_stats import do_not_track
from bentoml.exceptions import BentoMLException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from mien.errors import MienError
from mien.inference import champion, first_use, predictor
from mien.monitoring.recorder import recorder, settings
from mien.serving import access, openapi, port, schemas, timings
from mien.serving.backlog import Backlog
from mien.serving.limits import MIB
from mien.serving.load_shedding import LoadShedder
from mien.serving.photo_service import PhotoService
from mien.serving.prometheus import telemetry
from mien.serving.request_id import RequestIds
from mien.serving.requests import LIMITS, Crops, Photo, Photos, RefusedError, configured
from mien.serving.site import site

# BentoML reports each start to its maker. Its command line has read, and kept, the variable before it comes here.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
do_not_track.cache_clear()

# Without a configuration nobody reads the traces that BentoML makes of each request, in half a millisecond.
CONFIGURED = any(name in os.environ for name in ("BENTOML_CONFIG", "BENTOML_CONFIG_OPTIONS"))

ACCESS = configured(access.read)


# One thread a worker, two workers: on two cores this serves most requests a second, since detection has one thread.
@bentoml.service(
    name="mien",
    workers=LIMITS.workers,
    threads=1,
    traffic={"timeout": LIMITS.seconds},
    tracing={} if CONFIGURED else {"excluded_urls": ".*"},
)
class Mien:
    """Emotions of the faces in a photo."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Refuse to start without a champion: a worker that fails would be started again and again.

        The detector's file is fetched here, once for all workers, so that no request ever waits for it.
        """
        try:
            place = champion.folder(root=Path(Mien.working_dir))  # type: ignore[attr-defined]
            if champion.read_card(place).detector != "haar":
                first_use.provided(place)
            settings()
            _check_port()
        except MienError as error:
            raise BentoMLException(str(error)) from None

    def __init__(self) -> None:
        """Load the champion. Raises MienError where there is none."""
        cv2.setNumThreads(1)
        self.mien = predictor.Mien(threads=1)
        self.mien.warm_up()
        self.answers = PhotoService(self.mien, LIMITS, telemetry())
        self.recorder = recorder(self.mien.card.version)
        if self.recorder:
            self.mien.observe = self.recorder.record

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Write what was counted for `mien drift`."""
        if self.recorder:
            self.recorder.close()

    @bentoml.api(input_spec=Photo, output_spec=schemas.Answer)  # type: ignore[untyped-decorator]
    def predict(self, image: bytes | RefusedError, accept: str) -> Response:  # noqa: ARG002
        """Find every face in the photo of the form field `image` and name its emotion."""
        return self._answer(lambda: self.answers.predict(_given(image)))

    @bentoml.api(input_spec=Photos, output_spec=schemas.BatchAnswer)  # type: ignore[untyped-decorator]
    def predict_batch(self, images: list[bytes | RefusedError] | RefusedError) -> Response:
        """Do the same for each photo of the form fields `images`; one bad photo never fails the rest."""
        return self._answer(lambda: self.answers.predict_batch(_given(images)))

    @bentoml.api(input_spec=Crops, output_spec=schemas.CropsAnswer)  # type: ignore[untyped-decorator]
    def classify(self, images: list[bytes | RefusedError] | RefusedError) -> Response:
        """Name the emotion of each picture of one whole face."""
        return self._answer(lambda: self.answers.classify(_given(images)))

    @bentoml.api(input_spec=Photo, output_spec=schemas.Picture)  # type: ignore[untyped-decorator]
    def annotate(self, image: bytes | RefusedError, accept: str) -> Response:
        """Send the photo back with boxes and bars."""
        return self._answer(lambda: self.answers.annotate(_given(image), accept))

    @bentoml.api(input_spec=Photo, output_spec=schemas.Explanation)  # type: ignore[untyped-decorator]
    def explain(self, image: bytes | RefusedError, accept: str) -> Response:  # noqa: ARG002
        """Show what the answer for each face depends on."""
        return self._answer(lambda: self.answers.explain(_given(image)))

    def _answer(self, work: Callable[[], Any]) -> Response:
        """Say what `work` returns, or why not, and which model it was."""
        card = self.mien.card
        # Beside the body, because a picture and an error have no room for it.
        headers = {
            "x-mien-model": card.version,
            "x-mien-data": card.data_digest,
            "x-mien-commit": card.git_commit,
            "cache-control": "no-store",
        }
        try:
            with timings.collected() as times:
                answer = work()
        except RefusedError as refused:
            telemetry().refused.labels(refused.status).inc()
            return JSONResponse({"error": str(refused)}, status_code=refused.status, headers=headers)
        headers["server-timing"] = timings.header(times)
        if isinstance(answer, tuple):
            return Response(answer[0], media_type=answer[1], headers=headers)
        return JSONResponse(answer, headers=headers)


# The first sees a request first.
Mien.add_asgi_middleware(RequestIds)  # type: ignore[attr-defined]
Mien.add_asgi_middleware(CORSMiddleware, **ACCESS.cors())  # type: ignore[attr-defined]
Mien.add_asgi_middleware(access.ApiKeys, access=ACCESS)  # type: ignore[attr-defined]
Mien.add_asgi_middleware(  # type: ignore[attr-defined]
    LoadShedder,
    paths=frozenset(openapi.CALLS),
    requests=-(-LIMITS.concurrency // LIMITS.workers),
    room=LIMITS.memory_mib * MIB,
    largest=LIMITS.batch_mib * MIB,
    backlog=Backlog(frozenset({"/predict_batch", "/classify"}), LIMITS.wait_ms / 1000),
)
Mien.mount_asgi_app(site(LIMITS, ACCESS), path="/", name="site")  # type: ignore[attr-defined]


def _check_port() -> None:
    """Refuse a busy port before BentoML fails on it with a traceback. Raises MienError."""
    command = click.get_current_context(silent=True)
    given = command.params if command else {}
    if {"host", "port"} <= given.keys():
        http = BentoMLContainer.http
        port.check(given["host"] or http.host.get(), given["port"] or http.port.get())


def _given(read: Any) -> Any:
    if isinstance(read, RefusedError):
        raise read
    return read
