"""VGG16 with batch normalisation (Simonyan & Zisserman 2015): thirteen 3×3 convolutions in five blocks."""

from typing import Any

from mien.config.params import Architecture
from mien.learning.models.backbone import Tensor, conv_blocks, refuse_blocks

PRETRAINED = "VGG16"

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def features(x: Tensor, architecture: Architecture, _options: Any) -> Tensor:
    """The paper's five blocks; a 48 px face ends as 3×3."""
    refuse_blocks(architecture)
    return conv_blocks(x, BLOCKS, architecture)
