"""What a camera does to a face, at random and in the graph: blur, another gamma, darkness, sensor noise and JPEG."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from mien.config.params import Augmentation

Tensor = Any

LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
"""Quantisation of luminance at quality 50 (ITU-T T.81, table K.1)."""

BLOCK = len(LUMINANCE)


class CameraEffects(keras.layers.Layer):  # type: ignore[misc]
    """Faces `(n, h, w, 1)` in [0, 255] → as many, each as a poor camera gives it; the identity outside training.

    In the order of a camera: lens, exposure, sensor, file. Each effect hits its share of the faces, each with a
    strength of its own. Sides must be multiples of 8, JPEG's blocks.
    """

    def __init__(self, recipe: Augmentation, seed: int) -> None:
        super().__init__(name="camera", dtype="float32")
        self.steps = [
            (effect, apply)
            for effect, apply in (
                (recipe.blur, _blur),
                (recipe.gamma, self._gamma),
                (recipe.dark, _dark),
                (recipe.noise, self._noise),
                (recipe.jpeg, _jpeg),
            )
            if effect.probability and effect.strength
        ]
        self.seed_generator = keras.random.SeedGenerator(seed)

    @classmethod
    def applied(cls, faces: Tensor, recipe: Augmentation, seed: int) -> Tensor:
        """The symbolic faces through this layer, or as they are where the recipe has none of its effects."""
        layer = cls(recipe, seed)
        return layer(faces) if layer.steps else faces

    def call(self, faces: Tensor, training: bool = False) -> Tensor:
        """Apply the effects while training."""
        for effect, apply in self.steps if training else ():
            hit, strength = self._draw(faces), effect.strength * self._draw(faces)
            faces = ops.where(hit < effect.probability, ops.clip(apply(faces, strength), 0.0, 255.0), faces)
        return faces

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shapes stay."""
        return input_shape

    def _draw(self, faces: Tensor) -> Tensor:
        return keras.random.uniform((ops.shape(faces)[0], 1, 1, 1), seed=self.seed_generator)

    def _gamma(self, faces: Tensor, strength: Tensor) -> Tensor:
        """Darker or brighter midtones: an exponent between 2^-strength and 2^strength."""
        sign = ops.sign(self._draw(faces) - 0.5)
        return 255.0 * ops.power(ops.maximum(faces, 1e-6) / 255.0, ops.power(2.0, sign * strength))

    def _noise(self, faces: Tensor, sigma: Tensor) -> Tensor:
        return faces + sigma * keras.random.normal(ops.shape(faces), seed=self.seed_generator)


def _dark(faces: Tensor, missing: Tensor) -> Tensor:
    return faces * (1.0 - missing)


def _blur(faces: Tensor, sigma: Tensor) -> Tensor:
    """A Gaussian of each face's own sigma in pixels: one matrix product along each axis."""
    rows, columns = (_smoothing(side, sigma[..., 0]) for side in faces.shape[1:3])
    return ops.matmul(ops.matmul(rows, faces[..., 0]), ops.transpose(columns, (0, 2, 1)))[..., None]


def _smoothing(side: int, sigma: Tensor) -> Tensor:
    """Matrices `(n, side, side)` that average a line of pixels; at the edge the weights inside count."""
    place = np.arange(side, dtype=np.float32)
    weights = ops.exp(-0.5 * ops.square((place[:, None] - place) / ops.maximum(sigma, 0.1)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _jpeg(faces: Tensor, strength: Tensor) -> Tensor:
    """Quantised as JPEG does at the quality 100 - strength: cosine transform of 8×8 blocks, rounded by its table."""
    cosines, table = _cosines(), _table(100.0 - strength)
    blocks = _blocks(faces) - 128.0
    spectrum = ops.matmul(ops.matmul(cosines, blocks), cosines.T)
    rounded = ops.round(spectrum / table) * table
    return _unblocked(ops.round(ops.matmul(ops.matmul(cosines.T, rounded), cosines) + 128.0), faces)


def _table(quality: Tensor) -> Tensor:
    """Tables `(n, 1, 1, 8, 8)` of qualities `(n, 1, 1, 1)`, scaled as libjpeg does."""
    quality = ops.maximum(quality, 1.0)[..., None]
    scale = ops.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)  # noqa: PLR2004
    return ops.clip(ops.floor((LUMINANCE * scale + 50.0) / 100.0), 1.0, 255.0)


def _blocks(faces: Tensor) -> Tensor:
    height, width = faces.shape[1:3]
    tiles = ops.reshape(faces, (-1, height // BLOCK, BLOCK, width // BLOCK, BLOCK))
    return ops.transpose(tiles, (0, 1, 3, 2, 4))


def _unblocked(blocks: Tensor, faces: Tensor) -> Tensor:
    return ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, *faces.shape[1:]))


def _cosines() -> NDArray[np.float32]:
    """The orthonormal matrix of the discrete cosine transform of 8 values (type II)."""
    place = np.arange(BLOCK)
    matrix = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float32)
