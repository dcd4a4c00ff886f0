"""Layers that the families share: input, convolution blocks, Keras' pretrained networks, and the head."""

from typing import Any, Protocol

from mien.config.params import Architecture
from mien.errors import MienError

Tensor = Any
"""A symbolic Keras tensor `(n, height, width, channels)`."""


MAPS = 4
"""Dimensions of feature maps."""


class Network(Protocol):
    """Interface of a network module in learning/models.

    A module with hyperparameters of its own declares them as a frozen dataclass `Options`, whose defaults stand where
    `model.options` names none; `features` gets it filled in.
    """

    PRETRAINED: str

    def features(self, x: Tensor, architecture: Architecture, options: Any) -> Tensor:
        """Feature maps of normalised faces."""
        ...


def resize(faces: Tensor, architecture: Architecture) -> Tensor:
    """The face at the network's own input size."""
    from keras import ops

    size = architecture.input_size
    # Not layers.Resizing: called without `training`, as in an export, it sets all layers to training mode.
    return faces if faces.shape[1] == size else ops.image.resize(faces, (size, size), interpolation="bilinear")


def normalise(x: Tensor) -> Tensor:
    """Gray values from [0, 255] to [-1, 1]."""
    from keras import layers

    return layers.Rescaling(1 / 127.5, offset=-1.0)(x)


def channels(filters: int, width: float) -> int:
    """`filters` scaled by `width`, as a multiple of 8 wherever that is not the number itself."""
    return filters if width == 1 else max(8, round(filters * width / 8) * 8)


def conv(x: Tensor, filters: int, size: int = 3, strides: int = 1, *, relu: bool = True, l2: float = 0.0) -> Tensor:
    """Convolution without bias, batch normalisation, and ReLU unless switched off."""
    from keras import layers

    x = layers.Conv2D(filters, size, strides, "same", use_bias=False, **_start(l2))(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if relu else x


def conv_blocks(x: Tensor, blocks: tuple[tuple[int, ...], ...], architecture: Architecture) -> Tensor:
    """Blocks of 3×3 convolutions, halved in size between blocks (after every block where the head flattens)."""
    from keras import layers

    for number, filters in enumerate(blocks):
        l2 = _of_block(architecture.l2, number, len(blocks))
        for count in filters:
            wide = channels(count, architecture.width)
            if architecture.batch_norm == "conv":
                x = conv(x, wide, l2=l2)
            else:
                x = layers.Conv2D(wide, 3, padding="same", activation="relu", **_start(l2))(x)
        if architecture.batch_norm == "block":
            x = layers.BatchNormalization()(x)
        if number < len(blocks) - 1 or architecture.pooling == "flatten":
            x = layers.MaxPooling2D()(x)
        if architecture.block_dropout:
            x = layers.Dropout(architecture.block_dropout)(x)
    return x


def pretrained(x: Tensor, name: str) -> Tensor:
    """Feature maps of the ImageNet network `keras.applications.<name>`, its preprocessing included.

    Raises MienError where the family has no pretrained counterpart or its weights can neither be found nor downloaded.
    """
    import keras
    from keras import layers

    if not name:
        raise MienError("weights: imagenet is for vgg16, resnet50 and efficientnetb0; set weights: null for cnn.")
    x = layers.Concatenate()([x, x, x])
    if name != "EfficientNetB0":  # which normalises inside; the other two want BGR less ImageNet's mean, unscaled
        x = layers.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0, 1.0, 1.0])(x)
    try:
        network = getattr(keras.applications, name)(include_top=False, weights="imagenet", input_shape=x.shape[1:])
    except Exception as error:  # Keras raises a bare Exception when the download fails
        raise MienError(
            f"ImageNet weights of {name} could not be loaded ({error}). Connect once so that Keras can download "
            "them, or set weights: null to train from scratch."
        ) from error
    return network(x)


def checked(x: Tensor, network: str) -> Tensor:
    """What a network's `features` returned; raises MienError unless it is feature maps, which the head pools."""
    shape = getattr(x, "shape", None)
    if shape is None or len(shape) != MAPS:
        raise MienError(
            f"features of learning/models/{network}.py returned {type(x).__name__ if shape is None else shape}, "
            "expected feature maps (n, height, width, channels). Leave pooling and dense layers to model.pooling and "
            "model.dense."
        )
    return x


def head(x: Tensor, architecture: Architecture) -> Tensor:
    """Pooling, the dense layers and dropout before the output layer."""
    from keras import layers

    pools: dict[str, Any] = {
        "avg": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
        "flatten": layers.Flatten,
    }
    x = pools[architecture.pooling]()(x)
    for units in architecture.dense:
        x = layers.Dense(units, activation="relu")(x)
        if architecture.batch_norm != "none":
            x = layers.BatchNormalization()(x)
        if architecture.dropout:
            x = layers.Dropout(architecture.dropout)(x)
    return layers.Dropout(architecture.dropout)(x) if architecture.dropout and not architecture.dense else x


def refuse_blocks(architecture: Architecture) -> None:
    """Raise MienError if `blocks` are given to a network of fixed depth."""
    if architecture.blocks:
        raise MienError(f"{architecture.network} has its own blocks; leave model.blocks out, or use network: cnn.")


def _of_block(l2: float | tuple[float, ...], number: int, blocks: int) -> float:
    if isinstance(l2, float):
        return l2
    if len(l2) != blocks:
        raise MienError(f"model.l2 lists {len(l2)} numbers for {blocks} blocks; give one number or one per block.")
    return l2[number]


def _start(l2: float) -> dict[str, Any]:
    import keras

    return {"kernel_initializer": "he_normal", "kernel_regularizer": keras.regularizers.L2(l2) if l2 else None}
