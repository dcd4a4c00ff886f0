"""The champion on disk: one ONNX file and the card that says where it comes from."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.errors import MienError
from mien.files import read_json, write_json
from mien.inference.tta import NO_TTA, Tta, TtaName

CHAMPION_VARIABLE = "MIEN_CHAMPION"
FOLDER = Path("models/champion")
MODEL_FILE = "model.onnx"
CARD_FILE = "champion.json"
MADE_BY = "dvc repro"
LIMITS = ("too_small_below", "blurry_below", "low_confidence_below", "uncertain_below")
SHIPPED = Path(__file__).parents[1] / "shipped"
"""The champion that comes with the package."""
SHIPPED_VERSION = "shipped"
"""Its name where versions of a registry are named: its own number is one of the registry that it was trained in."""


@dataclass(frozen=True)
class Card:
    """champion.json: the version served, the limits below which a prediction is flagged, and its lineage.

    A face is `too_small` where its box is less wide or high than that in the photo's pixels, `blurry` by
    `status.sharpness` of its crop, `low_confidence` by the detector's score, `uncertain` by the probability of its
    emotion. Where the defaults come from: `python benchmarks/limits.py`.

    `tta` and `crops` are its TTA, over which probabilities are averaged and for which `temperature` was
    fitted; a card without them uses one pass.
    """

    version: str
    temperature: float
    uncertain_below: float
    detector: str
    family: str = ""
    data_name: str = ""
    data_digest: str = ""
    git_commit: str = ""
    synthetic: bool = False
    too_small_below: float = 20.0
    blurry_below: float = 0.05
    low_confidence_below: float = 0.75
    metrics: Mapping[str, float] = field(default_factory=dict)
    tta: TtaName = NO_TTA.tta
    crops: tuple[int, ...] = NO_TTA.crops

    def __post_init__(self) -> None:
        """Refuse values that would make every prediction wrong. Raises MienError."""
        if not 0 < self.temperature < float("inf"):
            raise MienError(f"The champion's temperature is {self.temperature}, expected a number above 0.")
        for name in ("uncertain_below", "low_confidence_below"):
            if not 0 <= getattr(self, name) <= 1:
                raise MienError(f"The champion's {name} is {getattr(self, name)}, expected one in [0, 1].")
        for name in ("too_small_below", "blurry_below"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise MienError(f"The champion's {name} is {getattr(self, name)}, expected 0 or more.")
        Tta(self.tta, self.crops)

    @property
    def test_time_augmentation(self) -> Tta:
        """Its TTA."""
        return Tta(self.tta, self.crops)


def folder(chosen: Path | None = None, root: Path = Path()) -> Path:
    """Find the folder to serve from: `chosen`, else MIEN_CHAMPION, the Bento's own, models/champion in `root`, SHIPPED.

    Raises MienError where a folder that was named, or the last, holds no champion, and where one holds half of it.
    """
    named = os.environ.get(CHAMPION_VARIABLE)
    packed = Path(__file__).parents[2] / FOLDER
    places = [chosen] if chosen else [Path(named)] if named else [packed, root / FOLDER, SHIPPED]
    for place in places:
        there = [name for name in (MODEL_FILE, CARD_FILE) if (place / name).is_file()]
        if len(there) == 2:  # noqa: PLR2004
            return place
        # To pass over half a champion would serve another model than the one that someone put there.
        if there or place == places[-1]:
            break
    raise MienError(
        f"There is no champion in {place.absolute()}: expected {MODEL_FILE} and {CARD_FILE}. "
        f"Run `{MADE_BY}` to train and package one, or let {CHAMPION_VARIABLE} name the folder of another."
    )


def read_card(place: Path) -> Card:
    """Read the card in a champion's folder; keys that are not known here are left alone."""
    path = place / CARD_FILE
    content = read_json(path, MADE_BY)
    values: dict[str, Any] = {f.name: content[f.name] for f in dataclasses.fields(Card) if f.name in content}
    try:
        values |= {key: float(values[key]) for key in ("temperature", *LIMITS) if key in values}
        values |= dataclasses.asdict(Tta.of(values))
        return Card(**{**values, "version": str(values["version"]), "detector": str(values["detector"])})
    except MienError as error:
        raise MienError(f"{path} is no champion's card: {error} Make it anew with `{MADE_BY}`.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise MienError(f"{path} is no champion's card ({error!r}). Make it anew with `{MADE_BY}`.") from None


def write_card(place: Path, card: Card) -> None:
    """Write the card into a champion's folder."""
    write_json(place / CARD_FILE, dataclasses.asdict(card))
