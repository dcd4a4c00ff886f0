"""The commands `mien fetch …`: bring labelled faces to data/raw and track them with DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mien.errors import MienError
from mien.files import alone_in

if TYPE_CHECKING:
    from mien.data.raw import Batch
    from mien.data.sources.parts import Progress

BAR = 40
"""Characters of the progress bar."""

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def fetch() -> None:
    """Bring labelled faces to data/raw, or the detector's file to the user's cache."""


def placed(command: Command) -> Command:
    """Give a command the options that every source has."""
    options = [
        click.option(
            "--raw", type=click.Path(path_type=Path), default=Path("data/raw"), show_default=True, help="Folder."
        ),
        click.option("--append", is_flag=True, help="Add to the data that is there, as one more file."),
        click.option("--force", is_flag=True, help="Replace the data that is there."),
        click.option("--no-track", is_flag=True, help="Do not run `dvc add`."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


seed_option = click.option("--seed", default=7, show_default=True, help="For the splits that the data do not give.")
map_option = click.option(
    "--label-map",
    multiple=True,
    metavar="NAME=EMOTION|rafdb|affectnet",
    help="Read a folder or label as an emotion, or skip it; or read them by the numbers of a data set.",
)
name_option = click.option("--name", help="Data set that the faces belong to (for --append).")


def labelled(command: Command) -> Command:
    """Give a command the options of sources whose labels are words or another data set's numbers."""
    return map_option(seed_option(name_option(placed(command))))


@fetch.command()
@placed
def kaggle(**place: Any) -> None:
    """FER-2013 from Kaggle; needs an account's token."""
    from mien.data import sources

    bring(lambda *reading: sources.kaggle(sources.KAGGLE_DATASET, *reading), **place)


@fetch.command()
@click.argument("path", type=click.Path(path_type=Path))
@seed_option
@name_option
@placed
def csv(path: Path, seed: int, name: str | None, **place: Any) -> None:
    """FER-2013's fer2013.csv or train.csv, also inside .zip, .tar.gz or .xz.

    A table of emotion, pixels and perhaps Usage: emotions by number or name, splits by FER-2013's names or as train,
    val and test, columns parted by commas, semicolons or tabs.
    """
    from mien.data import sources

    bring(lambda *reading: sources.csv(path, seed, *reading), name=name, **place)


@fetch.command()
@click.argument("path", type=click.Path(path_type=Path))
@labelled
def folders(path: Path, label_map: tuple[str, ...], seed: int, name: str | None, **place: Any) -> None:
    """Images in class folders: Kaggle's FER-2013, CK+48, eNTERFACE-style, or your own."""
    from mien.data import sources

    mapping = label_mapping(label_map)
    bring(lambda *reading: sources.folders(path, mapping, seed, *reading), name=name, **place)


@fetch.command()
@click.argument("path", type=click.Path(path_type=Path))
@labelled
def parquet(path: Path, label_map: tuple[str, ...], seed: int, name: str | None, **place: Any) -> None:
    """Parquet files with the columns image and label, as the Hugging Face hub serves data sets: one, or a folder."""
    from mien.data import sources

    mapping = label_mapping(label_map)
    bring(lambda *reading: sources.parquet(path, mapping, seed, *reading), name=name, **place)


@fetch.command()
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@labelled
def webdataset(paths: tuple[Path, ...], label_map: tuple[str, ...], seed: int, name: str | None, **place: Any) -> None:
    """WebDataset's tar shards, or folders of them: an image beside its label in .cls, .txt or .json."""
    from mien.data import sources

    mapping = label_mapping(label_map)
    bring(lambda *reading: sources.webdataset(paths, mapping, seed, *reading), name=name, **place)


@fetch.command()
@click.option("--rows", type=click.IntRange(min=42), default=4200, show_default=True, help="How many faces to draw.")
@click.option("--seed", default=7, show_default=True)
@placed
def sample(rows: int, seed: int, **place: Any) -> None:
    """Drawn faces (synthetic), to try everything without data."""
    from mien.data import sources

    bring(lambda *_: sources.sample(rows, seed), **place)


@fetch.command()
@click.option("--from", "source", metavar="PATH|URL", help="Where to take it instead of OpenCV's zoo.")
@click.option("--sha256", help="The digest that it must have instead of the zoo's.")
def detector(source: str | None, sha256: str | None) -> None:
    """YuNet's model file, once: faces are then found with it instead of Haar's cascade."""
    from mien.inference.detector_file import fetch

    path = fetch(source, sha256)
    click.echo(f"Wrote {path}: faces are found with YuNet from now on.")


@fetch.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--votes",
    type=click.Path(path_type=Path),
    default=Path("data/ferplus.csv"),
    show_default=True,
    help="Where to keep it.",
)
@click.option("--no-track", is_flag=True, help="Do not run `dvc add`.")
def ferplus(path: Path, votes: Path, no_track: bool) -> None:
    """FER+'s fer2013new.csv: ten people's votes on each face of fer2013.csv, for `evaluate` (optional)."""
    from mien.data.sources.ferplus import NONE, keep

    found = keep(path, votes)
    settled = int((found.plurality() != NONE).sum())
    tracked = not no_track and track(votes)
    click.echo(f"Wrote {votes}: votes on {len(found.votes):,} faces, {settled:,} of them settled on one of the seven.")
    click.echo(f"{'Tracked by DVC. ' if tracked else ''}Next: dvc repro --force --single-item evaluate")


def label_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    """`("contempt=skip", "joy=happy")` as a mapping; several pairs may stand in one text, parted by commas.

    `rafdb` and `affectnet` stand for the numbers of these data sets.
    """
    from mien.data.sources.names import LABEL_MAPS

    mapping: dict[str, str] = {}
    for pair in filter(None, map(str.strip, ",".join(pairs).split(","))):
        folder, mark, emotion = (part.strip() for part in pair.partition("="))
        if not mark and folder.lower() in LABEL_MAPS:
            mapping |= LABEL_MAPS[folder.lower()]
        elif mark and folder and emotion:
            mapping[folder] = emotion.lower()
        else:
            known = ", ".join(LABEL_MAPS)
            raise MienError(f"--label-map {pair!r}: expected FOLDER=EMOTION, such as contempt=skip, or one of {known}.")
    return mapping


def bring(
    source: Callable[["Progress", Path], "Batch"],
    raw: Path,
    append: bool,
    force: bool,
    no_track: bool,
    name: str | None = None,
) -> None:
    """Read a source, write it to `raw`, hand it to DVC, and say what was done and what comes next."""
    from rich.console import Console

    from mien.data.raw import listed, write

    if append and force:
        raise MienError("--append adds and --force replaces: pass only one of them.")
    if append and not raw.exists() and raw.with_name(f"{raw.name}.dvc").exists():
        raise MienError(f"{raw} is kept by DVC but not here. Bring it with `dvc pull`, then append.")
    if not append and not force and len(listed(raw)) > 1:
        raise MienError(
            f"{raw} holds data already ({', '.join(path.name for path in listed(raw))}). "
            "Pass --append to add to it, --force to replace it, or --raw DIR to write elsewhere."
        )
    if not append and not force and listed(raw):
        click.echo(f"{listed(raw)[0]} is there already: reading, to see whether these are the same rows.", err=True)
    before = {path: path.stat().st_mtime_ns for path in listed(raw)}
    with read_so_far(raw) as kept, Console(stderr=True).status("Reading faces …") as status:

        def progress(rows: int, share: float) -> None:
            done = round(BAR * share)
            status.update(f"Reading faces … {'━' * done}{'╌' * (BAR - done)} {share:.0%}, {rows:,}")

        batch = source(progress, kept)
        path = write(batch.renamed(name) if name else batch, raw, append, force)
        status.update("Handing them to DVC …")
        tracked = not no_track and track(raw)
    for note in batch.notes:
        click.echo(note)
    if before.get(path) == path.stat().st_mtime_ns:
        click.echo(f"{path} holds these very rows already: nothing to do.")
    else:
        counts = ", ".join(f"{split} {n:,}" for split, n in batch.counts().items())
        click.echo(f"Wrote {path}: {batch.table.num_rows:,} rows of {name or batch.name} ({counts}).")
    click.echo(f"Tracked by DVC in {raw}.dvc. Next: dvc repro" if tracked else f"Next: mien prepare --raw {raw} --help")


@contextmanager
def read_so_far(raw: Path) -> Iterator[Path]:
    """A folder beside `raw` for what was read, which is left behind only where the block does not reach its end."""
    folder = raw.with_name(f".{raw.name}-fetching")
    new = [folder, *(parent for parent in folder.parents if not parent.exists())]
    with alone_in(folder, f"Another `mien fetch` is reading for {raw}. Wait for its end, then try again."):
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # one that holds something
                for empty in new:
                    empty.rmdir()
            if folder.exists():
                click.echo(f"What was read is kept in {folder}: the same command carries on from there.", err=True)
            raise
        shutil.rmtree(folder)


def track(raw: Path) -> bool:
    """Hand `raw` to DVC where this is a DVC project."""
    if not Path(".dvc").is_dir():
        return False
    command = [sys.executable, "-m", "dvc", "add", "--quiet", str(raw)]
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        reason = done.stderr.strip() or done.stdout.strip()
        raise MienError(f"The rows are in {raw}, but `dvc add {raw}` failed: {reason}\nOr pass --no-track.")
    return True
