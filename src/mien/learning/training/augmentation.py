"""Random augmentation of training faces, computed in the graph by any Keras backend."""

import math
from typing import Any

import keras
from keras import ops

from mien.config.params import Augmentation

Tensor = Any


class Augment(keras.layers.Layer):  # type: ignore[misc]
    """Faces `(n, h, w, 1)` in [0, 255] → as many, each randomly augmented; the identity outside training.

    Flip, rotation, shift and zoom are one affine map, so that a face is interpolated once and not four times.
    """

    def __init__(self, recipe: Augmentation, seed: int) -> None:
        super().__init__(name="augment", dtype="float32")
        self.recipe = recipe
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, faces: Tensor, training: bool = False) -> Tensor:
        """Augment while training."""
        if not training:
            return faces
        recipe = self.recipe
        if recipe.flip or recipe.rotation or recipe.shift or recipe.zoom:
            faces = ops.image.affine_transform(faces, self._maps(faces), fill_mode="nearest")
        if recipe.brightness or recipe.contrast:
            faces = self._relight(faces)
        return self._erase(faces) if recipe.erasing else faces

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shapes stay."""
        return input_shape

    def _draw(self, faces: Tensor, reach: float, columns: int = 1) -> Tensor:
        shape = (ops.shape(faces)[0], columns)
        return keras.random.uniform(shape, -reach, reach, seed=self.seed_generator)

    def _maps(self, faces: Tensor) -> Tensor:
        """Eight numbers a face: where each output pixel reads its input, turned and scaled about the centre."""
        recipe, (height, width) = self.recipe, faces.shape[1:3]
        angle = self._draw(faces, recipe.rotation * math.pi / 180)
        scale = 1.0 + self._draw(faces, recipe.zoom)
        mirror = ops.sign(self._draw(faces, 1.0)) if recipe.flip else ops.ones_like(angle)
        shift = self._draw(faces, recipe.shift, columns=2)
        cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        a, b, c, d = cos * mirror, -sin, sin * mirror, cos
        x = centre_x - a * centre_x - b * centre_y + shift[:, :1] * width
        y = centre_y - c * centre_x - d * centre_y + shift[:, 1:] * height
        zero = ops.zeros_like(angle)
        return ops.concatenate([a, b, x, c, d, y, zero, zero], axis=1)

    def _relight(self, faces: Tensor) -> Tensor:
        """Contrast about each face's own mean, then brightness as a share of the full range."""
        mean = ops.mean(faces, axis=(1, 2), keepdims=True)
        contrast = 1.0 + self._draw(faces, self.recipe.contrast)[:, :, None, None]
        brightness = 255.0 * self._draw(faces, self.recipe.brightness)[:, :, None, None]
        return ops.clip((faces - mean) * contrast + mean + brightness, 0.0, 255.0)

    def _erase(self, faces: Tensor) -> Tensor:
        """Hide one rectangle of 15 to 45 % of each side behind the face's mean (Zhong et al. 2020)."""
        height, width = faces.shape[1:3]
        middle, half = 0.5 + self._draw(faces, 0.5, columns=2), 0.15 + self._draw(faces, 0.075, columns=2)
        chosen = self._draw(faces, 0.5) + 0.5 < self.recipe.erasing
        rows = ops.abs((ops.arange(height, dtype="float32") + 0.5)[None] / height - middle[:, :1]) < half[:, :1]
        columns = ops.abs((ops.arange(width, dtype="float32") + 0.5)[None] / width - middle[:, 1:]) < half[:, 1:]
        hidden = ops.logical_and(rows[:, :, None], columns[:, None, :])
        hidden = ops.logical_and(hidden, chosen[:, :, None])[..., None]
        return ops.where(hidden, ops.mean(faces, axis=(1, 2), keepdims=True), faces)
