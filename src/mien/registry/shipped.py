"""The champion that comes with the package, as the incumbent of a registry that has none of its own."""

import hashlib

from mien.config.params import Promote
from mien.inference.champion import MODEL_FILE, SHIPPED, SHIPPED_VERSION, read_card
from mien.inference.tta import NO_TTA
from mien.registry.promotion_log import Log
from mien.registry.tracking import versions
from mien.registry.tracking.versions import Version

ONNX = SHIPPED / MODEL_FILE


def shipped_version() -> Version | None:
    """The shipped champion as a version, with the tags that `mien promote` sets on one; None where none is shipped."""
    if not ONNX.is_file():
        return None
    card = read_card(SHIPPED)
    tags = {
        "family": card.family,
        "onnx_sha256": hashlib.sha256(ONNX.read_bytes()).hexdigest(),
        "validation_macro_f1": str(card.metrics.get("validation_macro_f1", "")),
        "temperature": str(card.temperature),
        "tta": card.tta,
        "crops": ",".join(map(str, card.crops or NO_TTA.crops)),
        "data.name": card.data_name,
        "data.digest": card.data_digest,
        "git.commit": card.git_commit,
        "synthetic": str(card.synthetic).lower(),
    }
    return Version(SHIPPED_VERSION, "", {key: value for key, value in tags.items() if value}, card.metrics)


def incumbent(name: str, log: Log, limits: Promote, challenger: str = "") -> Version | None:
    """The champion by the log; of an empty registry the shipped one, unless `promote.shipped` is false.

    `challenger` is the SHA-256 of a file that is to become champion: the shipped file needs not beat itself.
    """
    if log.champion and log.champion != SHIPPED_VERSION:
        return versions.find(name, log.champion)
    if not (log.champion or limits.shipped):
        return None
    found = shipped_version()
    return None if found and found.tags["onnx_sha256"] == challenger else found
