"""The commands that answer: `mien predict`, `mien video` and `mien webcam`."""

import sys
from pathlib import Path
from typing import Any

import click

from mien.errors import MienError

path_type = click.Path(path_type=Path)
champion_option = click.option("--champion", type=path_type, help="Folder of the champion, if not the usual one.")
half_life_option = click.option(
    "--half-life",
    type=click.FloatRange(min=0),
    default=0.4,
    show_default=True,
    help="Seconds after which half of a face's former emotions is forgotten; 0 does not smooth.",
)


@click.command()
@click.argument("paths", nargs=-1, required=True)
@champion_option
@click.option("--json", is_flag=True, help="Print JSON, one object a photo and line.")
@click.option("--jsonl", type=path_type, metavar="FILE", help="Write the same to FILE.")
@click.option("--csv", type=path_type, metavar="FILE", help="Write CSV to FILE, a row a face; - prints it.")
@click.option("--resume", is_flag=True, help="Keep the answers that are in the file, and go on after them.")
@click.option("--annotate", type=path_type, metavar="DIR", help="Write copies with the faces drawn on them to DIR.")
@click.option("--workers", type=click.IntRange(min=1), help="Photos at a time, if not one a core.")
def predict(
    paths: tuple[str, ...],
    champion: Path | None,
    resume: bool,
    annotate: Path | None,
    workers: int | None,
    **outputs: Any,
) -> None:
    """The emotions in the photos of PATHS.

    PATHS are photos, folders and quoted globs ('trip/**/*.jpg'). Folders are searched with all below them for files
    that end like a photo (.jpg, .png, .webp, .gif, .bmp, .tif, .ppm …); hidden ones are left out.

    A FILE is called FILE.part until all photos are answered. After an interruption the same command with --resume goes
    on with it.

    Exit code 1: some path could not be read, the others are answered. 2: there was no photo to answer. 130: it was
    interrupted.
    """
    from mien.cli.predictions import STDOUT, Output, run

    wanted = [Output("jsonl", STDOUT)] if outputs["json"] else []
    wanted += [Output("jsonl", outputs["jsonl"])] if outputs["jsonl"] else []
    wanted += [Output("csv", outputs["csv"])] if outputs["csv"] else []
    if len(wanted) > 1:
        raise MienError("--json, --jsonl and --csv: pass only one of them.")
    sys.exit(run(paths, wanted[0] if wanted else Output(), champion, annotate, resume, workers))


@click.command()
@click.argument("recording", type=path_type)
@champion_option
@click.option("--out", type=path_type, help="Video to write with the faces drawn on it: .mp4, .webm (for browsers) …")
@click.option("--csv", "rows", type=path_type, help="CSV to write: a row for each face and frame.")
@click.option("--plot", type=path_type, help="PNG to write: each face's emotions over time.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Look at each N-th frame only.")
@half_life_option
def video(
    recording: Path,
    champion: Path | None,
    out: Path | None,
    rows: Path | None,
    plot: Path | None,
    every: int,
    half_life: float,
) -> None:
    """Follow the faces in a RECORDING and how their emotions go over time.

    Faces keep a number while they are in sight, and their probabilities are smoothed over time. Videos are written
    without sound.
    """
    from mien.cli import recordings

    recordings.run(recording, champion, recordings.Outputs(out, rows, plot), every, half_life)


@click.command()
@champion_option
@click.option("--camera", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the camera.")
@half_life_option
def webcam(champion: Path | None, camera: int, half_life: float) -> None:
    """Show the camera in a window, with every face's emotions on it; q or Esc ends it."""
    from mien.video.webcam import Screen, show_camera

    screen = Screen()
    from mien.inference.predictor import Mien

    show_camera(screen, Mien(champion), camera, half_life)
