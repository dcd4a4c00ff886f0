"""What `mien video` does: follow the faces of a recording, and write the requested outputs."""

import csv
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

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
from mien.video.recordings import CODECS, Frame, Video, writing
from mien.video.streams import Live, Stop, is_recording, opened_source, shown
from mien.video.timeline import Timeline, clock
from mien.video.tracking import Tracker

COLUMNS = ("frame", "time", "track", "x", "y", "width", "height", "emotion", "confidence", "status", *EMOTIONS)
PATIENCE = 1.0
"""Seconds that a face may be out of sight and still be the same one."""
MOST_LINES = 20
WHOLE = 0.95
"""Share of the frames claimed from which a recording counts as whole: some formats only estimate them."""

STDOUT = Path("-")

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

    def check(self, source: str) -> None:
        """Refuse, before the work, what could not be written after it. Raises MienError."""
        wanted = [path for path in (self.video, self.rows, self.plot) if path]
        places = [path.resolve() for path in (Path(source), *wanted)] if is_recording(source) else wanted
        if len(set(places)) < len(places):
            raise MienError(f"{shown(source)} and the files to write must all differ. Choose other names.")
        if self.video and self.video.suffix.lower() not in CODECS:
            raise MienError(f"--out {self.video}: expected a name that ends in {', '.join(CODECS)}.")
        if self.plot and self.plot.suffix.lower() != ".png":
            raise MienError(f"--plot {self.plot}: expected a name that ends in .png.")


def run(
    source: str,
    champion: Path | None,
    outputs: Outputs,
    every: int = 1,
    half_life: float = 0.4,
    seconds: float | None = None,
) -> None:
    """Follow the faces of a video, looking for them in each `every`-th frame, and say how they felt.

    A recording is followed whole or not at all; a camera or stream until it is stopped, or for some `seconds`.
    """
    outputs.check(source)
    stop, whole = Stop(), is_recording(source)
    with ended_by_signals() if whole else stopped_by_signals(stop), opened_source(source, stop, _note) as video:
        mien = Mien(champion, turned=False)
        patience = max(PATIENCE, 2.5 * every / video.rate)
        tracker = Tracker(half_life, patience, mien.card.uncertain_below)
        timeline = Timeline(hold=patience)
        seen = follow(_until(stop, video.frames(seconds)), mien, tracker, every)
        last = write(video, seen, outputs, timeline, live=not whole)
        if outputs.plot:
            picture = Image.fromarray(timeline.draw(Path(video.path).name))
            write_file(outputs.plot, lambda target: picture.save(target, "PNG"))
    click.echo(summary(video.path, last, timeline), err=outputs.rows == STDOUT)
    for note in notes(outputs, last.number + 1, 0 if seconds or stop.requested else video.count):
        _note(note)


def _until(stop: Stop, frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if stop.requested:
            return
        yield frame


def follow(
    frames: Iterable[Frame], mien: Predictor, tracker: Tracker, every: int = 1
) -> Iterator[tuple[Frame, Faces, bool]]:
    """Each frame with its tracked faces, and whether they were detected in it or carried over from the frame before."""
    faces: Faces = ()
    for index, frame in enumerate(frames):
        fresh = index % every == 0
        if fresh:
            faces = tracker.update(mien.predict(frame.pixels)["faces"], frame.time)
        yield frame, faces, fresh


def write(
    video: Video | Live,
    seen: Iterable[tuple[Frame, Faces, bool]],
    outputs: Outputs,
    timeline: Timeline,
    live: bool = False,
) -> Frame:
    """Hand each frame to everything that is written, with a progress bar; gives the last frame."""
    last = None
    with ExitStack() as stack:
        sinks = [stack.enter_context(taker) for taker in _takers(video.rate, outputs, live)]
        advance = stack.enter_context(progress_bar(video.count, quiet=outputs.rows == STDOUT, unit="frames"))
        for frame, faces, fresh in seen:
            last = frame
            if fresh:
                timeline.add(faces, frame.time)
            for take in sinks:
                take(frame, faces, fresh)
            advance()
        if last is None:
            raise MienError(f"{video.path} sent no frame.")
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


def summary(path: Path | str, last: Frame, timeline: Timeline) -> str:
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
        if path and path != STDOUT:
            yield f"Wrote {path}"


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C and a polite kill end a stream like its own end; a second one ends the command at once."""

    def leave(number: int, _: object) -> None:
        stop.requested = True
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _takers(rate: float, outputs: Outputs, live: bool) -> Iterator[Any]:
    if outputs.video:
        yield _annotated(outputs.video, rate)
    if outputs.rows:
        yield _rows_at_once(outputs.rows) if live or outputs.rows == STDOUT else _rows(outputs.rows)


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


@contextmanager
def _rows_at_once(path: Path) -> Iterator[Taker]:
    """Rows as they come, on stdout or in a file that grows: whoever reads along need not wait for the end."""
    with nullcontext(sys.stdout) if path == STDOUT else _opened(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def take(frame: Frame, faces: Faces, fresh: bool) -> None:
            if fresh:
                writer.writerows(csv_rows(frame, faces))
                file.flush()

        yield take


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise MienError(f"Cannot write {path}: {error.strerror}. Free the disk or mend the rights.") from error
