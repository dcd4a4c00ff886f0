"""What `mien video` does: follow the faces of a recording, and write the requested outputs."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click
from PIL import Image

from mien.cli.terminal import ended_by_signals, progress_bar
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.files import replacing, write_file
from mien.inference.answer_text import counted
from mien.inference.drawing import annotate
from mien.inference.photos import Pixels
from mien.inference.predictor import Mien
from mien.video.recordings import CODECS, Frame, Video, opened, writing
from mien.video.timeline import Timeline, clock
from mien.video.tracking import Tracker

COLUMNS = ("frame", "time", "track", "x", "y", "width", "height", "emotion", "confidence", "status", *EMOTIONS)
PATIENCE = 1.0
"""Seconds that a face may be out of sight and still be the same one."""
MOST_LINES = 20
WHOLE = 0.95
"""Share of the frames claimed from which a recording counts as whole: some formats only estimate them."""

Faces = Sequence[dict[str, Any]]
Taker = Callable[[Frame, Faces, bool], None]


class Predictor(Protocol):
    """What answers a picture, as Mien does."""

    def predict(self, image: Pixels, /) -> Mapping[str, Any]:
        """The faces in a picture."""


@dataclass(frozen=True)
class Outputs:
    """The files to write, None for those not wanted."""

    video: Path | None = None
    rows: Path | None = None
    plot: Path | None = None

    def check(self, recording: Path) -> None:
        """Refuse, before the work, what could not be written after it. Raises MienError."""
        wanted = [path for path in (self.video, self.rows, self.plot) if path]
        places = [path.resolve() for path in (recording, *wanted)]
        if len(set(places)) < len(places):
            raise MienError(f"{recording} and the files to write must all differ. Choose other names.")
        if self.video and self.video.suffix.lower() not in CODECS:
            raise MienError(f"--out {self.video}: expected a name that ends in {', '.join(CODECS)}.")
        if self.plot and self.plot.suffix.lower() != ".png":
            raise MienError(f"--plot {self.plot}: expected a name that ends in .png.")


def run(path: Path, champion: Path | None, outputs: Outputs, every: int = 1, half_life: float = 0.4) -> None:
    """Follow the faces of a video, looking for them in each `every`-th frame, and say how they felt."""
    outputs.check(path)
    with ended_by_signals(), opened(path) as video:
        mien = Mien(champion)
        patience = max(PATIENCE, 2.5 * every / video.rate)
        tracker = Tracker(half_life, patience, mien.card.uncertain_below)
        timeline = Timeline(hold=patience)
        last = write(video, follow(video.frames(), mien, tracker, every), outputs, timeline)
        if outputs.plot:
            picture = Image.fromarray(timeline.draw(path.name))
            write_file(outputs.plot, lambda target: picture.save(target, "PNG"))
    click.echo(summary(path, last, timeline))
    for note in notes(outputs, last.number + 1, video.count):
        click.echo(note, err=True)


def follow(
    frames: Iterable[Frame], mien: Predictor, tracker: Tracker, every: int = 1
) -> Iterator[tuple[Frame, Faces, bool]]:
    """Each frame with its tracked faces, and whether they were detected in it or carried over from the frame before."""
    faces: Faces = ()
    for frame in frames:
        fresh = frame.number % every == 0
        if fresh:
            faces = tracker.update(mien.predict(frame.pixels)["faces"], frame.time)
        yield frame, faces, fresh


def write(video: Video, seen: Iterable[tuple[Frame, Faces, bool]], outputs: Outputs, timeline: Timeline) -> Frame:
    """Hand each frame to everything that is written, with a progress bar; gives the last frame."""
    last = None
    with ExitStack() as stack:
        sinks = [stack.enter_context(taker) for taker in _takers(video, outputs)]
        advance = stack.enter_context(progress_bar(video.count))
        for frame, faces, fresh in seen:
            last = frame
            if fresh:
                timeline.add(faces, frame.time)
            for take in sinks:
                take(frame, faces, fresh)
            advance()
    if last is None:
        raise MienError(f"{video.path} holds no frame.")
    return last


def csv_rows(frame: Frame, faces: Faces) -> list[list[Any]]:
    """A row a face, in the order of COLUMNS; a frame without a face gives one row of status `no_face`."""
    start = [frame.number, round(frame.time, 4)]
    if not faces:
        return [[*start, *[""] * 7, "no_face", *[""] * len(EMOTIONS)]]
    return [
        [*start, face["track"], *face["box"], face["emotion"], round(face["confidence"], 6), face["status"],
         *(round(face["probabilities"][name], 6) for name in EMOTIONS)]
        for face in faces
    ]  # fmt: skip


def summary(path: Path, last: Frame, timeline: Timeline) -> str:
    """What was seen: each face, when, and its mean emotions; only those longest in sight where there are many."""
    tracks = timeline.tracks()
    head = f"{path}: {counted(last.number + 1, 'frame')}, {clock(last.time, 0.1)}, {counted(len(tracks), 'face')}"
    lines = [head]
    for track in sorted(tracks[:MOST_LINES], key=lambda track: track.number):
        likely = sorted(zip(EMOTIONS, track.means, strict=True), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{emotion} {share:.0%}" for emotion, share in likely)
        lines.append(f"  face {track.number:<4} {clock(track.start, 0.1):>8} to {clock(track.end, 0.1):<8} {shares}")
    if len(tracks) > MOST_LINES:
        lines.append(f"  and {len(tracks) - MOST_LINES:,} more, in sight for shorter: --csv lists all")
    return "\n".join(lines)


def notes(outputs: Outputs, read: int, claimed: int) -> Iterator[str]:
    """Tell what the recording lacks, where the files are, and what the video lacks."""
    if read < claimed * WHOLE:
        yield f"Only {read:,} of {claimed:,} frames could be read: the rest is damaged or cut off."
    if outputs.video:
        browsers = "" if outputs.video.suffix.lower() == ".webm" else "; browsers play .webm only (slower to write)"
        yield f"Wrote {outputs.video}, without sound{browsers}"
    for path in (outputs.rows, outputs.plot):
        if path:
            yield f"Wrote {path}"


def _takers(video: Video, outputs: Outputs) -> Iterator[Any]:
    if outputs.video:
        yield _annotated(outputs.video, video.rate)
    if outputs.rows:
        yield _rows(outputs.rows)


@contextmanager
def _annotated(path: Path, rate: float) -> Iterator[Taker]:
    with writing(path, rate) as writer:
        yield lambda frame, faces, fresh: writer.write(annotate(frame.pixels, faces), frame.time)  # noqa: ARG005


@contextmanager
def _rows(path: Path) -> Iterator[Taker]:
    with replacing(path) as target, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda frame, faces, fresh: writer.writerows(csv_rows(frame, faces) if fresh else ())
