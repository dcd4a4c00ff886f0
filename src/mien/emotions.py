"""The seven emotions of FER-2013, in label order: label 0 is `EMOTIONS[0]`."""

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

SPLITS = ("train", "validation", "test")
"""Split names in Mien; FER-2013 calls them Training, PublicTest and PrivateTest."""

FACE_SIZE = 48
"""Side of a face in pixels: every model takes `(n, 48, 48, 1)` float32 in [0, 255]."""
