"""A plain convolutional network whose blocks are set in params.yaml."""

from typing import Any

from mien.config.params import Architecture
from mien.errors import MienError
from mien.learning.models.backbone import Tensor, conv_blocks

PRETRAINED = ""


def features(x: Tensor, architecture: Architecture, _options: Any) -> Tensor:
    """Blocks of 3×3 convolutions, max-pooled."""
    if not architecture.blocks:
        raise MienError("cnn needs model.blocks, for example [[32], [64], [128, 128]]: filters block by block.")
    return conv_blocks(x, architecture.blocks, architecture)
