"""From a photo to calibrated probabilities, in this process: no HTTP, no training library."""
