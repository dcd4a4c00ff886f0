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
seconds_option = click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds."
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
    that end like a photo (.jpg, .heic, .avif, .png, .webp, .gif, .bmp, .tif, .ppm …); hidden ones are left out.

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
@click.argument("source")
@champion_option
@click.option("--out", type=path_type, help="Video to write with the faces drawn on it: .mp4, .webm (for browsers) …")
@click.option("--csv", type=path_type, help="CSV to write: a row for each face and frame; - prints it.")
@click.option("--plot", type=path_type, help="PNG to write: each face's emotions over time.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Look at each N-th frame only.")
@seconds_option
@half_life_option
def video(
    source: str, champion: Path | None, every: int, seconds: float | None, half_life: float, **outputs: Path | None
) -> None:
    """Follow the faces in a video and how their emotions go over time.

    SOURCE is a recording, a camera's number, an address (rtsp://, http://, https://), or - for a video on stdin.

    Faces keep a number while they are in sight, and their probabilities are smoothed over time. Videos are written
    without sound. Cameras and streams are followed until Ctrl-C, or for some --seconds: with the latest frame where
    they are faster than the model, connected anew where they break off, and with rows written as they come.
    """
    from mien.cli import recordings

    wanted = recordings.Outputs(outputs["out"], outputs["csv"], outputs["plot"])
    recordings.run(source, champion, wanted, every, half_life, seconds)


@click.command()
@champion_option
@click.option(
    "--camera", default="0", show_default=True, metavar="SOURCE", help="Number or address of the camera, as for video."
)
@seconds_option
@half_life_option
def webcam(champion: Path | None, camera: str, seconds: float | None, half_life: float) -> None:
    """Show the camera in a window, with every face's emotions on it; q or Esc ends it."""
    from mien.video.webcam import Screen, show_camera

    screen = Screen()
    from mien.inference.predictor import Mien

    show_camera(screen, Mien(champion, turned=False), camera, half_life, seconds)
