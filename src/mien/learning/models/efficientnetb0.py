"""EfficientNet-B0 (Tan & Le 2019) with strides for small faces."""

from dataclasses import dataclass
from typing import Literal

from mien.config.params import Architecture
from mien.learning.models.backbone import Tensor, channels, refuse_blocks

PRETRAINED = "EfficientNetB0"

# expansion, filters, depth, stride, kernel; the paper's last stride of 2 is 1 here: a 48 px face ends as 3×3.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 1, 5),
    (6, 320, 1, 1, 3),
)


@dataclass(frozen=True)
class Options:
    """Strides of the first convolution: 1 keeps a small face's detail for four times the arithmetic."""

    stem_strides: Literal[1, 2] = 2


def features(x: Tensor, architecture: Architecture, options: Options) -> Tensor:
    """Sixteen inverted bottlenecks with squeeze-and-excitation, then a 1×1 convolution to 1280 channels."""
    refuse_blocks(architecture)
    x = swish_conv(x, channels(32, architecture.width), 3, options.stem_strides)
    for expansion, filters, depth, stride, kernel in STAGES:
        for block in range(depth):
            x = inverted(x, expansion, channels(filters, architecture.width), 1 if block else stride, kernel)
    return swish_conv(x, channels(1280, architecture.width), 1)


def swish_conv(x: Tensor, filters: int, size: int, strides: int = 1) -> Tensor:
    """Convolution, batch normalisation, swish."""
    from keras import layers

    x = layers.Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.Activation("swish")(layers.BatchNormalization()(x))


def inverted(x: Tensor, expansion: int, filters: int, strides: int, kernel: int) -> Tensor:
    """Expand, convolve depthwise, weigh the channels, project; with a shortcut where the shape stays."""
    from keras import layers

    shortcut, inner = x, x.shape[-1] * expansion
    if expansion > 1:
        x = swish_conv(x, inner, 1)
    x = layers.DepthwiseConv2D(kernel, strides, "same", use_bias=False)(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    x = squeeze_excite(x, max(1, shortcut.shape[-1] // 4))
    x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.Add()([x, shortcut]) if x.shape == shortcut.shape else x


def squeeze_excite(x: Tensor, units: int) -> Tensor:
    """Channel weights from the whole face (Hu et al. 2018)."""
    from keras import layers

    weights = layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = layers.Conv2D(units, 1, activation="swish")(weights)
    weights = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(weights)
    return layers.Multiply()([x, weights])
