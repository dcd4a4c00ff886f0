"""Predictions as plain text: one line per face, for terminals and for whoever calls Mien from Python."""

from collections.abc import Mapping, Sequence
from typing import Any

Answer = Mapping[str, Any]


def counted(count: int, noun: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(photo: str, found: Sequence[Answer]) -> str:
    """One line a face: where it is, its emotion and the three likeliest probabilities."""
    lines = [f"{photo}: {counted(len(found), 'face')}"]
    for face in found:
        shares = ", ".join(f"{emotion} {share:.0%}" for emotion, share in likely(face)[:3])
        x, y, width, height = face["box"]
        lines.append(f"  {face['emotion']:<9} {face['status']:<10} at {x},{y} {width}×{height}   {shares}")
    return "\n".join(lines)


def likely(face: Answer) -> list[tuple[str, float]]:
    """A face's emotions with their probabilities, the likeliest first."""
    return sorted(face["probabilities"].items(), key=lambda item: -item[1])
