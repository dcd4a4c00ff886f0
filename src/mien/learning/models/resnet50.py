"""ResNet-50 (He et al. 2016) with a stem for small faces."""

from dataclasses import dataclass
from typing import Literal

from mien.config.params import Architecture
from mien.learning.models.backbone import Tensor, channels, conv, refuse_blocks

PRETRAINED = "ResNet50"

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


@dataclass(frozen=True)
class Options:
    """Strides of the first convolution: 1 keeps a small face's detail for four times the arithmetic."""

    stem_strides: Literal[1, 2] = 2


def features(x: Tensor, architecture: Architecture, options: Options) -> Tensor:
    """Sixteen bottlenecks in four stages.

    The paper's stem and pooling shrink an image 4-fold before the first block; a 48 px face is shrunk 2-fold, so that
    it ends as 3×3 and not as 2×2.
    """
    refuse_blocks(architecture)
    x = conv(x, channels(64, architecture.width), strides=options.stem_strides)
    for stage, (filters, depth) in enumerate(STAGES):
        for block in range(depth):
            x = bottleneck(x, channels(filters, architecture.width), 2 if stage and not block else 1)
    return x


def bottleneck(x: Tensor, filters: int, strides: int) -> Tensor:
    """1×1, 3×3 (strided, as in ResNet v1.5) and 1×1 convolutions around a shortcut."""
    from keras import layers

    shortcut = x
    if strides > 1 or x.shape[-1] != 4 * filters:
        shortcut = conv(x, 4 * filters, 1, strides, relu=False)
    x = conv(x, filters, 1)
    x = conv(x, filters, 3, strides)
    x = conv(x, 4 * filters, 1, relu=False)
    return layers.ReLU()(layers.Add()([x, shortcut]))
