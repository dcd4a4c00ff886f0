"""Seeded batches of faces for one epoch, with balanced sampling, class weights and mixup."""

import keras
import numpy as np
from numpy.typing import NDArray

from mien.config.params import Training
from mien.data.dataset import Split
from mien.emotions import EMOTIONS

Floats = NDArray[np.float32]


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """One epoch of shuffled faces: the same seed and epoch give the same batches, also after a restart."""

    def __init__(self, split: Split, recipe: Training, seed: int, epoch: int) -> None:
        # Two workers use Keras' own threads. One would use a tf.data prefetcher, which waits for its autotuner at the
        # end of every epoch: 10, 20 or 41 s.
        super().__init__(workers=2)
        self.split, self.recipe = split, recipe
        random = np.random.default_rng((seed, epoch))
        rarity = _rarity(split)
        self.weights = rarity if recipe.balance == "weights" else np.ones(len(split), np.float32)
        if recipe.balance == "sampling":
            self.order = random.choice(len(split), len(split), p=rarity / rarity.sum(dtype=np.float64))
        else:
            self.order = random.permutation(len(split))
        self.rows = self.order[: len(self) * recipe.batch_size].reshape(len(self), -1)
        self.mixes = random.beta(recipe.mixup, recipe.mixup, len(self)) if recipe.mixup else np.ones(len(self))

    def __len__(self) -> int:
        # The last, shorter batch is dropped: its noisy statistics would be the epoch's last update of batch norm.
        return max(1, len(self.split) // self.recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[Floats, Floats, Floats]:
        """Faces `(b, 48, 48, 1)` in [0, 255], one-hot targets `(b, 7)` and loss weights `(b,)`."""
        rows = self.rows[index]
        faces = self.split.images[rows].astype(np.float32)
        answers = np.eye(len(EMOTIONS), dtype=np.float32)[self.split.labels[rows]]
        share = np.float32(self.mixes[index])
        if share < 1:  # mixup (Zhang et al. 2018): each face blended with the one at its mirrored place in the batch
            faces = share * faces + (1 - share) * faces[::-1]
            answers = share * answers + (1 - share) * answers[::-1]
        return faces, answers, self.weights[rows]


def _rarity(split: Split) -> Floats:
    """One weight a row, inverse to its class's frequency, 1 on average."""
    counts = np.bincount(split.labels, minlength=len(EMOTIONS))
    return (len(split) / np.count_nonzero(counts) / counts[split.labels]).astype(np.float32)
