"""The commands that answer: `mien predict`, `mien video` and `mien webcam`."""

import sys
from pathlib import Path

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
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a photo and line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a row a face.")
@click.option("--annotate", type=path_type, metavar="DIR", help="Write copies with the faces drawn on them to DIR.")
def predict(paths: tuple[str, ...], champion: Path | None, as_json: bool, as_csv: bool, annotate: Path | None) -> None:
    """The emotions in the photos of PATHS.

    PATHS are photos, folders and quoted globs ('trip/**/*.jpg'). Folders are searched with all below them for files
    that end like a photo (.jpg, .png, .webp, .gif, .bmp, .tif, .ppm …); hidden ones are left out.

    Exit code 1: some path could not be read, the others are answered. 2: there was no photo to answer.
    """
    if as_json and as_csv:
        raise MienError("--json and --csv: pass only one of them.")
    from mien.cli import predictions

    form: predictions.Form = "json" if as_json else "csv" if as_csv else "table"
    sys.exit(predictions.run(paths, champion, form, annotate))


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
