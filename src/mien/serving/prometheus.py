"""Prometheus metrics: photos, faces, emotions, and the time of detection and classification."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from mien.serving import timings

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Telemetry:
    """The counters of this process; BentoML adds up those of all workers at /metrics."""

    def __init__(self) -> None:
        # Late: BentoML says where workers share their counts only when a service starts.
        from prometheus_client import Counter, Histogram

        self.photos = Counter("mien_photos", "Photos looked at, by whether a face was found", ["faces"])
        self.faces = Counter("mien_faces", "Faces named, by emotion and status", ["emotion", "status"])
        self.refused = Counter("mien_refused", "Requests and photos refused, by status", ["status"])
        self.detection = Histogram("mien_detection_seconds", "Finding the faces of one photo", buckets=BUCKETS)
        self.classification = Histogram("mien_classification_seconds", "Naming faces, one batch", buckets=BUCKETS)

    def watch(self, mien: Any) -> None:
        """Time the detector and the runtime of `mien` from now on."""
        mien.detector.detect = _timed(mien.detector.detect, "detection", self.detection)
        mien.runtime.predict = _timed(mien.runtime.predict, "classification", self.classification)

    def record(self, faces: Sequence[dict[str, Any]]) -> None:
        """Count one photo and its faces."""
        self.photos.labels("some" if faces else "none").inc()
        for face in faces:
            self.faces.labels(face["emotion"], face["status"]).inc()


@functools.cache
def telemetry() -> Telemetry:
    """The one of this process: a metric's name can be registered once."""
    return Telemetry()


def _timed(call: Callable[..., Any], name: str, histogram: Any) -> Callable[..., Any]:
    @functools.wraps(call)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with histogram.time(), timings.timed(name):
            return call(*args, **kwargs)

    return timed
