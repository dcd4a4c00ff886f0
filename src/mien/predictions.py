"""What `mien predict` prints: a table for people, or JSON lines for programs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mien.errors import MienError
from mien.serving.predict import Mien


def run(photos: Sequence[Path], champion: Path | None, as_json: bool) -> None:
    """Answer every photo that can be read; name those that cannot and exit with 1."""
    mien, failed = Mien(champion), 0
    for photo in photos:
        try:
            answer = mien.predict(photo)
        except MienError as error:
            click.echo(f"error: {error}", err=True)
            failed += 1
            continue
        click.echo(json.dumps({"photo": str(photo), **answer}) if as_json else table(str(photo), answer["faces"]))
    sys.exit(1 if failed else 0)


def table(photo: str, found: Sequence[dict[str, Any]]) -> str:
    """One line a face: where it is, its emotion and the three likeliest probabilities."""
    lines = [f"{photo}: {len(found)} face{'' if len(found) == 1 else 's'}"]
    for face in found:
        likely = sorted(face["probabilities"].items(), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{emotion} {share:.0%}" for emotion, share in likely)
        x, y, width, height = face["box"]
        lines.append(f"  {face['emotion']:<9} {face['status']:<10} at {x},{y} {width}×{height}   {shares}")
    return "\n".join(lines)
