"""One training: its batches and augmentation, loss, optimiser and epochs, and the checkpoints it resumes from."""
